"""faces.video: colours, times, tracks, memory, and videos that are broken."""

import asyncio
import csv
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from deepfer_jax.errors import UserError
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.tracking import Tracker
from deepfer_jax.faces.video import (
    BrokenVideo,
    CsvWriter,
    VideoWriter,
    follow,
    open_frames,
)
from deepfer_jax.inference import name_class
from tests import photos

cv2 = pytest.importorskip("cv2")
CLASSES = ("angry", "happy")
SIDE = 40


class SquareFinder:
    """Finds one bright red square of 40 pixels, as an analyzer finds faces."""

    classes, threshold = CLASSES, 0.5

    def __init__(self):
        self.batches = []

    def analyze(self, frames):
        self.batches.append(len(frames))
        return [self._find(frame) for frame in frames]

    def _find(self, frame):
        red = (frame[..., 0] > 150) & (frame[..., 2] < 100)
        if not red.any():
            return []
        rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
        probabilities = np.array([0.1, 0.9], np.float32)
        named = name_class(probabilities, CLASSES, 0.5)
        return [Face(box, 0.9, np.zeros((6, 2), np.float32), **named._asdict())]


def write_video(path, num=30, rate=20.0, size=(160, 120)):
    """A red square that moves two pixels a frame over blue; none in the last five."""
    code = cv2.VideoWriter_fourcc(*("mp4v" if path.suffix == ".mp4" else "MJPG"))
    writer = cv2.VideoWriter(str(path), code, rate, size)
    for i in range(num):
        frame = np.zeros((size[1], size[0], 3), np.uint8)
        frame[..., 0] = 200  # blue, as OpenCV has it
        if i < num - 5:
            left = 10 + 2 * (i % 50)
            frame[30 : 30 + SIDE, left : left + SIDE] = (0, 0, 255)
        writer.write(frame)
    writer.release()
    return path


def moments(source, finder=None):
    finder = finder or SquareFinder()
    with open_frames(source) as frames:
        yield from follow(finder, frames, Tracker(CLASSES, 0.5))


def test_every_frame_with_its_time_and_face(tmp_path):
    finder = SquareFinder()
    found = list(moments(write_video(tmp_path / "a.mp4"), finder))
    assert [moment.number for moment in found] == list(range(30))
    np.testing.assert_allclose([m.time for m in found], np.arange(30) / 20)
    assert [len(m.faces) for m in found] == [1] * 27 + [0] * 3  # two carried on
    assert {face.track for m in found for face in m.faces} == {1}
    lefts = [m.faces[0].box[0] for m in found[:25]]
    np.testing.assert_allclose(lefts, 10 + 2 * np.arange(25), atol=3)
    assert finder.batches == [8] * 4  # so that one program serves all
    # Red is first: OpenCV's order does not get out.
    red, green, blue = found[0].image[50, 30].astype(int)
    assert red > 200
    assert max(green, blue) < 60


def test_csv_and_video_are_written(tmp_path):
    source = write_video(tmp_path / "a.mp4")
    table, out = tmp_path / "faces.csv", tmp_path / "out.mp4"
    writers = [CsvWriter(table, CLASSES), VideoWriter(out, 20.0, CLASSES)]
    for moment in moments(source):
        for writer in writers:
            writer.write(moment)
    for writer in writers:
        writer.close()
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 27
    assert float(rows[10]["time"]) == 0.5
    assert rows[10]["label"] == "happy"
    assert float(rows[10]["right"]) - float(rows[10]["left"]) == pytest.approx(
        40, abs=4
    )
    assert float(rows[10]["happy"]) == pytest.approx(0.9)
    again = list(moments(out))
    assert len(again) == 30
    # The square is still red, and above it stands the dark tag.
    image = again[0].image.astype(int)
    assert image[50, 30, 0] > 180
    assert np.abs(image[18:24, 14:44] - [0, 0, 200]).max(-1).mean() > 40
    assert np.abs(image[100:, :] - [0, 0, 200]).max(-1).mean() < 20


def write_sounding_video(path, seconds=1.5):
    """The same square at 20 frames a second, beside a tone of 440 Hz."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", 20)
        picture.width, picture.height, picture.pix_fmt = 160, 120, "yuv420p"
        sound = container.add_stream("aac", 48_000, layout="mono")
        for _ in range(round(20 * seconds)):
            frame = np.zeros((120, 160, 3), np.uint8)
            frame[..., 2] = 200
            frame[30 : 30 + SIDE, 10 : 10 + SIDE] = (255, 0, 0)
            picture_frame = av.VideoFrame.from_ndarray(frame, "rgb24")
            container.mux(picture.encode(picture_frame))
        times = np.arange(round(48_000 * seconds)) / 48_000
        wave = (0.5 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
        for start in range(0, len(wave), 1024):
            part = av.AudioFrame.from_ndarray(
                wave[None, start : start + 1024], "fltp", "mono"
            )
            part.sample_rate, part.pts = 48_000, start
            container.mux(sound.encode(part))
        container.mux(picture.encode(None))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "sound"), [("mp4", "h264", "aac"), ("webm", "vp9", "opus")]
)
def test_sound_is_kept(tmp_path, suffix, codec, sound):
    av = pytest.importorskip("av")
    source = write_sounding_video(tmp_path / "a.mp4")
    out = tmp_path / f"out.{suffix}"
    with open_frames(source) as frames:
        writer = VideoWriter(out, frames.rate, CLASSES, source=source)
        for moment in follow(SquareFinder(), frames, Tracker(CLASSES, 0.5)):
            writer.write(moment)
        writer.close()
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name == codec
        assert container.streams.audio[0].codec_context.name == sound
        decoded = [f.to_ndarray() for f in container.decode(audio=0)]
    wave = np.concatenate([x[0] for x in decoded])
    assert len(wave) / 48_000 == pytest.approx(1.5, abs=0.1)
    # The loudest frequency is still 440 Hz.
    spectrum = np.abs(np.fft.rfft(wave[4800:52_800]))
    assert spectrum.argmax() * 48_000 / 48_000 == pytest.approx(440, abs=2)
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected a video \.mp4 or \.webm"):
        VideoWriter(tmp_path / "a.avi", 20.0, CLASSES)


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_what_is_written_plays_in_a_browser(tmp_path, suffix):
    from tests import chromium

    if chromium.find() is None:
        pytest.skip("needs Chromium")
    out = tmp_path / f"out.{suffix}"
    writer = VideoWriter(out, 20.0, CLASSES)
    for moment in moments(write_video(tmp_path / "a.mp4")):
        writer.write(moment)
    writer.close()

    async def look():
        async with chromium.open_page(out.as_uri(), tmp_path / "profile") as page:
            video = "document.querySelector('video')"
            await page.until(f"{video}.readyState >= 2 || {video}.error", 30)
            assert await page.evaluate(f"{video}.error") is None
            assert await page.evaluate(f"{video}.videoWidth") == 160
            await page.evaluate(f"{video}.muted = true; {video}.play()")
            await page.until(f"{video}.ended || {video}.currentTime > 1", 30)

    asyncio.run(look())


def test_memory_does_not_grow_with_the_length(tmp_path):
    """300 frames: never are more than two batches alive."""
    import gc
    import weakref

    alive, most = [], 0
    for moment in moments(write_video(tmp_path / "a.avi", num=300)):
        alive = [ref for ref in alive if ref() is not None]
        alive.append(weakref.ref(moment.image))
        most = max(most, len(alive))
        if moment.number % 50 == 0:
            gc.collect()
    assert moment.number == 299
    assert most <= 24


def test_a_folder_of_images_of_any_sizes(tmp_path):
    for i, size in enumerate([(64, 48), (64, 48), (80, 60)]):
        Image.new("RGB", size, (255, 0, 0)).save(tmp_path / f"{i}.png")
    found = list(moments(tmp_path))
    assert [m.image.shape for m in found] == [(48, 64, 3)] * 2 + [(60, 80, 3)]
    (tmp_path / "3.png").write_bytes(b"no image")
    with pytest.raises(BrokenVideo, match=r"frame 3: .*3.png: not a whole image"):
        list(moments(tmp_path))


def test_a_cut_off_video_gives_what_it_has_and_names_the_frame(tmp_path):
    whole = write_video(tmp_path / "a.avi").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) // 2])
    found = []

    def read():
        for moment in moments(cut):
            found.append(moment.number)

    with pytest.raises(BrokenVideo, match=r"cut\.avi: frame \d+.* cannot be") as error:
        read()
    (frame,) = re.findall(r"frame (\d+)", str(error.value))
    assert found[-1] == int(frame) - 1
    assert 5 < int(frame) < 30


@pytest.mark.parametrize("name", ["no.mp4", "notes.mp4", "empty", "99"])
def test_what_is_no_video(tmp_path, name):
    (tmp_path / "notes.mp4").write_text("not a video")
    (tmp_path / "empty").mkdir()
    source = name if name == "99" else tmp_path / name
    message = {
        "no.mp4": "no such file, folder or camera",
        "notes.mp4": "not a video",
        "empty": "holds no images",
        "99": "no such camera",
    }[name]
    with pytest.raises(UserError, match=message):
        list(moments(source))


def test_the_script_reads_a_real_face(run_python, tmp_path):
    face = photos.on_canvas(photos.photo("astronaut"), 0.9)
    code = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), code, 25, (640, 480))
    for i in range(20):
        writer.write(np.roll(face, i, axis=1)[..., ::-1].copy())
    writer.release()
    arguments = (tmp_path / "a.mp4", "--csv", tmp_path / "a.csv")
    result = run_python("scripts/video.py", *arguments, "--out", tmp_path / "o.mp4")
    assert "20 frames, 20 faces in them" in result.stdout
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert {row["track"] for row in rows} == {"1"}
    assert {row["label"] for row in rows} == {"happy"}
    assert (tmp_path / "o.mp4").stat().st_size > 10_000
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "bad.mp4").write_bytes(whole[: len(whole) // 3])
    failed = run_python("scripts/video.py", tmp_path / "bad.mp4", check=False)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert "error: " in failed.stderr
    assert pathlib.Path(tmp_path / "bad.mp4").name in failed.stderr


def test_without_the_extra_the_script_names_it(run_python, tmp_path):
    (tmp_path / "tqdm.py").write_text("raise ModuleNotFoundError(name='tqdm')")
    env = {"PYTHONPATH": str(tmp_path)}
    failed = run_python("scripts/video.py", "party.mp4", check=False, env=env)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: tqdm is not installed")
    assert 'pip install "deepfer_jax[video]"' in failed.stderr
