"""`deepfer bulk`: rows equal the Analyzer's, bad files, kills; with Ray and without."""

import collections
import glob
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measuring.ray_cluster import make_environment, running_cluster
from PIL import Image

from deepfer_jax.bulk import cluster as cluster_reader
from deepfer_jax.bulk import listing, places, rows, threads
from deepfer_jax.bulk.parts import Parts, locked
from deepfer_jax.commands import bulk
from deepfer_jax.data.images import read_image, to_rgb
from deepfer_jax.errors import UserError
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.photos import find_faces
from deepfer_jax.faces.tracking import Tracker
from deepfer_jax.faces.video import follow, open_frames
from tests import photos

ROOT = pathlib.Path(__file__).parents[1]
NUM_SMALL = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of many kinds, files that are none, and two videos, one cut off."""
    folder = tmp_path_factory.mktemp("bulk")
    face = Image.fromarray(photos.photo("astronaut"))
    (folder / "small").mkdir()
    for i in range(NUM_SMALL):
        face.resize([120 + 4 * i, 130]).save(folder / "small" / f"{i}.png")
    face.convert("L").resize((200, 200)).save(folder / "gray.jpg")
    face.resize((2300, 1500)).save(folder / "large.jpg")
    Image.new("RGB", (90, 60)).save(folder / "nobody.webp")
    (folder / "damaged.jpg").write_bytes((folder / "gray.jpg").read_bytes()[:900])
    (folder / "empty.png").touch()
    (folder / "notes.txt").touch()
    (folder / "._a.jpg").touch()
    write_video(folder / "party.mp4", 12)
    data = (folder / "party.mp4").read_bytes()
    (folder / "broken.mp4").write_bytes(data[: len(data) // 2])
    return folder


NUM_PICTURES, NUM_BAD = NUM_SMALL + 5, 2


def write_video(path, num):
    cv2 = pytest.importorskip("cv2")
    frame = photos.on_canvas(photos.photo("astronaut"), 0.5, 320, 240)
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, frame.shape[1::-1]
    )
    for i in range(num):
        writer.write(np.roll(frame, i, axis=1)[..., ::-1].copy())
    writer.release()


def run(out, *arguments):
    return bulk.main([*map(str, arguments), "--out", str(out)])


def read(out):
    """Rows by path and frame; fails if one is there twice."""
    table = pq.read_table(out).to_pylist()
    found = {(row["path"], row["frame"]): row for row in table}
    assert len(found) == len(table)
    return found


def without_ids(table):
    """The list has no order of its own."""
    return {key: row | {"id": None} for key, row in table.items()}


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("rows") / "faces.parquet"
    assert run(out, folder) == 0
    return out


@pytest.fixture(scope="module")
def analyzer():
    return Analyzer()


def as_stored(face, classes):
    """A face as it comes out of a table: floats of 32 bits."""
    schema = pa.schema([("face", rows.row_schema(classes).field("faces").type)])
    box = dict(zip(("left", "top", "right", "bottom"), face.box, strict=True))
    face = face.as_dict(classes) | {
        "box": {side: round(float(x), 1) for side, x in box.items()}
    }
    return pa.Table.from_pylist([{"face": [face]}], schema).to_pylist()[0]["face"][0]


def test_rows_of_photographs_are_the_analyzers_own(whole, folder, analyzer):
    found = read(whole)
    pictures = [path for path, frame in found if frame is None and "mp4" not in path]
    assert len(pictures) == NUM_PICTURES
    num_faces = 0
    for path in pictures:
        row = found[path, None]
        if pathlib.Path(path).stem in ("damaged", "empty"):
            assert row["faces"] is None
            assert path in row["error"]
            continue
        image = to_rgb(read_image(path))
        assert (row["height"], row["width"]) == image.shape[:2]
        expected = find_faces(analyzer, image)
        assert row["faces"] == [as_stored(face, analyzer.classes) for face in expected]
        assert row["error"] is None
        num_faces += len(expected)
    assert num_faces >= NUM_SMALL
    assert found[f"{folder}/nobody.webp", None]["faces"] == []
    assert len({row["model"] for row in found.values()}) == 1


def test_a_video_has_a_row_a_frame_with_tracks(whole, folder, analyzer):
    found = read(whole)
    tracker = Tracker(analyzer.classes, analyzer.threshold)
    with open_frames(folder / "party.mp4") as frames:
        moments = list(follow(analyzer, frames, tracker))
    assert len(moments) == 12
    for moment in moments:
        row = found[f"{folder}/party.mp4", moment.number]
        expected = [as_stored(face, analyzer.classes) for face in moment.faces]
        assert row["faces"] == expected
        assert row["time"] == pytest.approx(moment.time, abs=1e-3)
        assert [face["track"] for face in row["faces"]] == [1]
    broken = [row for (path, _), row in found.items() if "broken" in path]
    assert "broken.mp4" in broken[-1]["error"]


def test_run_again_it_does_nothing(whole, folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*.parquet")}
    run(whole, folder)
    assert {x: x.stat().st_mtime_ns for x in whole.glob("*.parquet")} == before
    assert f"0 of {NUM_PICTURES + 2} read now" in capsys.readouterr().out


def test_every_kind_of_input_gives_the_same_rows(whole, folder, tmp_path):
    expected = {
        name: row["faces"]
        for (path, _), row in read(whole).items()
        if (name := pathlib.Path(path).stem).isdecimal()
    }
    assert len(expected) == NUM_SMALL
    small = sorted((folder / "small").iterdir(), key=lambda path: int(path.stem))
    data = {"image": [path.read_bytes() for path in small] + [None, b"no picture"]}
    pq.write_table(pa.table(data), tmp_path / "bytes.parquet", row_group_size=7)
    names = [os.path.relpath(path, tmp_path) for path in small]
    (tmp_path / "paths.parquet").mkdir()
    for part, some in enumerate((names[:9], names[9:])):
        place = tmp_path / "paths.parquet" / f"{part}.parquet"
        pq.write_table(pa.table({"n": range(len(some)), "path": some}), place)

    def faces(name, *inputs):
        run(tmp_path / name, *inputs)
        return {path: row["faces"] for (path, _), row in read(tmp_path / name).items()}

    of_bytes = faces("of_bytes", tmp_path / "bytes.parquet")
    for i, path in enumerate(small):
        row = of_bytes.pop(f"{tmp_path}/bytes.parquet#{i}")
        assert row == expected[path.stem]
    assert list(of_bytes.values()) == [None, None]
    for name, given in {
        "of_paths": tmp_path / "paths.parquet",
        "of_address": f"file://{folder}/small",
        "of_pattern": f"{folder}/**/[0-9]*.png",
        "of_far_pattern": f"file://{folder}/sm*/*.png",
    }.items():
        found = faces(name, given)
        assert {pathlib.Path(x).stem: row for x, row in found.items()} == expected


def test_what_is_named_twice_is_listed_once(folder):
    given = [str(folder / "small"), f"{folder}/**/*.png", str(folder), str(folder)]
    counts = collections.Counter(entry.path for entry in listing.find(given))
    assert set(counts.values()) == {1}
    assert len(counts) == NUM_PICTURES + 2
    (folder / "small" / "table.parquet").mkdir()
    (folder / "small" / "table.parquet" / "a.png").touch()
    assert len(list(listing.find(given[2:]))) == len(counts)
    (folder / "small" / "table.parquet" / "a.png").unlink()
    (folder / "small" / "table.parquet").rmdir()


@pytest.mark.parametrize(
    "pattern", ["*.png", "**/*.png", "**/1?.png", "s*/[1-3].png", "**/[!0-9]*.jpg", "*"]
)
def test_patterns_mean_what_glob_means(folder, pattern):
    pattern = f"{folder}/{pattern}"
    expected = {
        path
        for path in glob.glob(pattern, recursive=True, include_hidden=True)
        if os.path.isfile(path)
    }
    found = [entry.path for entry in listing.find([pattern])]
    assert sorted(found) == sorted(expected)
    assert found


def test_names_of_files_need_not_be_text(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff.png"
    with open(name, "wb") as file:
        Image.new("RGB", (40, 40)).save(file, "PNG")
    run(tmp_path / "out", tmp_path)
    ((path, _),) = read(tmp_path / "out")
    assert path.endswith("\\xff.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing: no such file or folder"),
        (["nowhere/*.jpg"], "there is no folder"),
        (["empty"], "no image is there"),
        (["two.parquet"], "--column"),
        (["two.parquet", "--column", "number"], "expected paths"),
        (["bad.parquet"], "not a Parquet table"),
        (["what://a/b"], "pyarrow cannot open it"),
        (["small", "--detector", "short"], "another detector"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path, monkeypatch, whole):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    two = {"path": ["a"], "image": [b"a"], "number": [1]}
    pq.write_table(pa.table(two), tmp_path / "two.parquet")
    (tmp_path / "small").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "small" / "a.png")
    run(tmp_path / "out_small", "small")
    out = tmp_path / ("out_small" if "small" in arguments else "out")
    with pytest.raises(UserError, match=message):
        run(out, *arguments)


def test_one_process_at_a_time(tmp_path):
    another = pytest.raises(UserError, match="another process")
    with locked(tmp_path), another, locked(tmp_path):
        pass


def table_of(schema, ids, last=True, frames=None):
    some = [
        {"id": i, "path": str(i), "faces": [], rows.LAST: last, "frame": frame}
        for i, frame in zip(ids, frames or [None] * len(ids), strict=True)
    ]
    return pa.Table.from_pylist(some, schema)


def test_rows_appear_whole_or_not_at_all(tmp_path):
    schema = rows.row_schema(("happy",))

    def write():
        with Parts(tmp_path, schema, 10, rows_in_part=3) as parts:
            parts.write(table_of(schema, [0, 1]))
            parts.write(table_of(schema, [7, 7], last=False, frames=[0, 1]))
            assert not list(tmp_path.glob("[a-z]*"))
            parts.write(table_of(schema, [2, 3]))
            parts.write(table_of(schema, [4]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["photos-000001.parquet", "photos-000002.parquet"]
    (tmp_path / ".9-9.tmp.parquet").write_bytes(b"of one that was killed")
    with Parts(tmp_path, schema, 10, rows_in_part=3) as parts:
        assert np.flatnonzero(parts.done).tolist() == [0, 1, 2, 3, 4]
        parts.write(table_of(schema, [7], last=True, frames=[0]))
    assert (tmp_path / "video-000000007.parquet").exists()
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "photos-000002.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(UserError, match=r"photos-000002.*remove it"):
        Parts(tmp_path, schema, 10, 3).__enter__()


def test_reading_waits_for_who_writes():
    taken = []

    def items():
        for i in range(10_000):
            taken.append(i)
            yield i

    results = threads.in_threads(lambda i: [i, i], items(), 4)
    for _ in range(10):
        next(results)
        time.sleep(0.01)
    assert len(taken) < 40
    assert collections.Counter(results).total() == 2 * 10_000 - 10


def test_what_a_thread_raises_ends_the_reading():
    def work(i):
        if i == 50:
            raise ZeroDivisionError
        yield i

    with pytest.raises(ZeroDivisionError):
        list(threads.in_threads(work, iter(range(1000)), 3))


@pytest.fixture(scope="module")
def environment():
    """Of processes: this checkout, and a token, which keeps others off the cluster."""
    return make_environment()


@pytest.fixture(scope="module")
def cluster(environment):
    """The address of a Ray cluster of two nodes with a CPU each."""
    pytest.importorskip("ray")
    with running_cluster(environment, num_nodes=2) as cluster:
        yield cluster.address


@pytest.fixture(params=["threads", "ray"])
def address(request):
    if request.param == "threads":
        return []
    return ["--address", request.getfixturevalue("cluster")]


def start(environment, out, *arguments, before=""):
    program = f"{before}\nfrom deepfer_jax.commands import bulk\nimport sys\n"
    program += "sys.exit(bulk.main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "--out", out, *arguments]
    return subprocess.Popen(
        list(map(str, command)), env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors


def test_a_cluster_gives_the_same_rows(cluster, environment, whole, folder, tmp_path):
    """As where there are GPUs: pixels pass from tasks to actors that ask for others."""
    before = "from deepfer_jax.bulk import cluster\n"
    before += "cluster._plan = lambda resources: (1, {'num_cpus': 0})"
    out = tmp_path / "out"
    finish(start(environment, out, folder, "--address", cluster, before=before))
    assert without_ids(read(tmp_path / "out")) == without_ids(read(whole))


def test_a_model_that_differs_on_a_node_is_refused():
    options = rows.ReaderOptions("tiny", checksum="of another")
    with pytest.raises(UserError, match="another than that"):
        rows.Reader(options)


def test_killed_and_run_again_every_row_is_there_once(
    address, environment, whole, folder, tmp_path
):
    arguments = (tmp_path / "out", folder, "--part_rows", 2, *address)
    process, end = start(environment, *arguments), time.monotonic() + 500
    while not list((tmp_path / "out").glob("photos-*")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {path for path, _ in read(tmp_path / "out")}
    assert done
    finish(start(environment, *arguments))
    assert without_ids(read(tmp_path / "out")) == without_ids(read(whole))


def test_addresses_and_paths_are_told_apart(tmp_path):
    (tmp_path / "a b#1%.txt").write_text("x")
    system, path = places.locate(f"file://{tmp_path}/a b#1%.txt")
    with system.open_input_stream(path) as file:
        assert file.read() == b"x"


def test_what_a_worker_says_is_said_in_one_line():
    said = "ray::MapWorker.__init__() (pid=1)\n  File x\n"
    error = ValueError(f"{said}deepfer_jax.exported.ModelError: tiny: damaged\n")
    assert str(cluster_reader._user_error(error)) == "tiny: damaged"
    other = ValueError("of Ray")
    assert cluster_reader._user_error(other) is other
