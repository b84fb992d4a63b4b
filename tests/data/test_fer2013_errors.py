"""fer2013: bad files are named and leave nothing behind."""

import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from deepfer_jax.data.fer2013 import Fer2013
from deepfer_jax.data.prepare import prepare
from deepfer_jax.errors import UserError
from tests.fer_files import (
    csv_text,
    random_rows,
    write_csv,
    write_folders,
)


def changed(index, **fields):
    """csv of seven Training rows, one of them changed."""
    rows = random_rows("Training")
    rows[index] |= fields
    return csv_text(rows)


def with_pixel(value):
    return changed(2, pixels=" ".join(["0"] * 2303 + [value]))


GOOD = csv_text(random_rows("Training"))
BAD_CSV = {
    "empty": ("", r"fer2013.csv is empty"),
    "header only": ("emotion,pixels,Usage\n", "has a header but no rows"),
    "no Usage": (
        "emotion,pixels\n0,1 2\n",
        "line 1: expected the columns emotion, pixels and Usage, found emotion, pixels",
    ),
    "no header": (
        GOOD.split("\n", 1)[1],
        "line 1: expected the columns emotion, pixels and Usage, found 0",
    ),
    "few pixels": (
        changed(2, pixels="1 2 3"),
        "line 4: pixels: expected 2304 numbers, found 3",
    ),
    "no pixels": (
        changed(6, pixels=""),
        "line 8: pixels: expected 2304 numbers, found 0",
    ),
    "many pixels": (
        changed(0, pixels="7 " * 2305),
        "line 2: pixels: expected 2304 numbers, found 2305",
    ),
    **{
        f"pixel {value}": (
            with_pixel(value),
            "line 4: pixels: expected whole numbers from 0 to 255, found "
            f"'{value[:20]}'",
        )
        for value in ("-1", "256", "1.5", "x", "--5", "1_0", "nan", "9" * 5000)
    },
    "emotion 7": (changed(1, emotion=7), "line 3: emotion: expected 0 to 6, found '7'"),
    "emotion -1": (changed(1, emotion=-1), "emotion: expected 0 to 6, found '-1'"),
    "emotion happy": (changed(1, emotion="happy"), "emotion: .* found 'happy'"),
    "no emotion": (changed(1, emotion=""), "line 3: emotion: .* found ''"),
    "Usage Test": (
        changed(3, Usage="Test"),
        "line 5: Usage: expected Training, PublicTest, PrivateTest, found 'Test'",
    ),
    "extra field": (
        changed(4, Usage="Training,1"),
        "line 6: expected 3 fields, found 4",
    ),
    "cut off": (GOOD[:-300], "line 8: expected 3 fields, found 2"),
    "no Training": (
        csv_text(random_rows("PublicTest")),
        "no row has the Usage 'Training'",
    ),
    "no disgust": (
        csv_text(random_rows("Training")[:1] + random_rows("Training")[2:]),
        "no training face of disgust",
    ),
    "open quote": (
        GOOD.replace("\n", '\n"', 1) + "x" * 200_000,
        "line .*: not a csv file",
    ),
    "binary": (bytes(range(256)) * 9, "near line 1: not a csv file"),
}


def assert_refused(manual_dir, data_dir, message, file_format="array_record"):
    with pytest.raises(UserError, match=message) as caught:
        prepare("fer2013", manual_dir, data_dir, file_format)
    assert not list(data_dir.rglob("*"))
    return str(caught.value)


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv_is_named_and_leaves_nothing(tmp_path, case):
    content, message = BAD_CSV[case]
    path = tmp_path / "in" / "fer2013.csv"
    path.parent.mkdir()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = assert_refused(path.parent, tmp_path / "out", message)
    assert found.startswith(str(path))
    assert len(found) < len(str(path)) + 200


def test_bad_csv_leaves_nothing_in_tfrecord_and_can_be_mended(tmp_path):
    folder = write_csv(tmp_path / "in", random_rows("Training", 14))
    good = (folder / "fer2013.csv").read_text()
    (folder / "fer2013.csv").write_text(good.replace(" ", " x", 1))
    out = tmp_path / "out"
    assert_refused(folder, out, "line 2: pixels", "tfrecord")
    (folder / "fer2013.csv").write_text(good)
    counts = prepare("fer2013", folder, out, "tfrecord")
    assert counts["train"].tolist() == [2] * 7


def test_a_failure_spares_other_data_sets_of_data_dir(tmp_path):
    prepare("synthetic_faces/small", None, tmp_path / "out", "array_record")
    before = sorted((tmp_path / "out").rglob("*"))
    folder = write_csv(tmp_path / "in", random_rows("Training", 6))
    with pytest.raises(UserError, match="no training face of neutral"):
        prepare("fer2013", folder, tmp_path / "out", "array_record")
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_the_builder_alone_raises_user_errors(tmp_path):
    folder = write_csv(tmp_path / "in", random_rows("Training"))
    (folder / "fer2013.csv").write_text(with_pixel("300"))
    builder = Fer2013(data_dir=tmp_path / "out", file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=folder)
    with pytest.raises(UserError, match=r"fer2013.csv, line 4: pixels: .*'300'"):
        builder.download_and_prepare(download_config=config)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_missing_files_say_where_to_get_them(tmp_path):
    (tmp_path / "in").mkdir()
    for folder, message in {
        None: "--manual_dir is missing",
        tmp_path / "nowhere": "nowhere is not a folder",
        tmp_path / "in": "in holds neither fer2013.csv nor icml_face_data.csv nor a "
        "folder train/",
    }.items():
        found = assert_refused(folder, tmp_path / "out", message)
        assert "Kaggle" in found
        assert "--manual_dir" in found


def face(folder, emotion="happy"):
    return next((folder / "train" / emotion).iterdir())


def cut(folder, part):
    path = face(folder)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])


def replace_by(folder, image):
    image.save(face(folder))


def damage(folder):
    content = bytearray(face(folder).read_bytes())
    content[len(content) // 2] ^= 255
    face(folder).write_bytes(content)


def colour():
    pixels = np.zeros((48, 48, 3), np.uint8)
    pixels[5, 6, 1] = 1
    return Image.fromarray(pixels)


def add(folder, path):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(face(folder), folder / path)


NO_IMAGE = r"train/happy/Training_3\.png: not a whole image"
BAD_FOLDERS = {
    "cut in half": (lambda f: cut(f, 0.5), NO_IMAGE),
    "cut in the header": (lambda f: cut(f, 0.01), NO_IMAGE),
    "empty file": (lambda f: cut(f, 0), NO_IMAGE),
    "flipped byte": (damage, NO_IMAGE),
    "text": (lambda f: face(f).write_text("face" * 99), NO_IMAGE),
    "size": (
        lambda f: replace_by(f, Image.new("L", (48, 96))),
        r"Training_3\.png: expected 48x48 pixels, found 48x96",
    ),
    "huge": (
        lambda f: replace_by(f, Image.new("1", (20_000, 20_000))),
        r"Training_3\.png: (expected 48x48|not a whole image)",
    ),
    "colours": (
        lambda f: replace_by(f, colour()),
        r"Training_3\.png: expected a gray image, found colours",
    ),
    "16 bits": (
        lambda f: replace_by(f, Image.fromarray(np.full((48, 48), 999, np.uint16))),
        r"Training_3\.png: expected an 8-bit gray image, found mode I;16",
    ),
    "empty class": (
        lambda f: face(f).unlink(),
        r"train/happy holds no image",
    ),
    "no class": (
        lambda f: shutil.rmtree(f / "train" / "fear"),
        r"train: no training face of fear",
    ),
    "no face at all": (
        lambda f: [shutil.rmtree(path) for path in (f / "train").iterdir()],
        r"no training face of angry, disgust, fear, happy, sad, surprise, neutral",
    ),
    "other class": (
        lambda f: add(f, "train/contempt/Training_9.png"),
        r"train/contempt: expected the name of an emotion, one of angry, disgust",
    ),
    "test without prefix": (
        lambda f: add(f, "test/sad/im7.png"),
        r"test/sad/im7.png: test/ holds the public and the private test faces "
        r"together.* expected PublicTest_... or PrivateTest_...",
    ),
    "test with Training": (
        lambda f: add(f, "test/sad/Training_7.png"),
        r"test/sad/Training_7.png: test/ holds the public and the private",
    ),
    "test face in train": (
        lambda f: add(f, "train/sad/PublicTest_7.png"),
        r"train/sad/PublicTest_7.png: a face of PublicTest is in train/",
    ),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folder_is_named_and_leaves_nothing(tmp_path, case):
    spoil, message = BAD_FOLDERS[case]
    rows = random_rows("Training") + random_rows("PublicTest")
    folder = write_folders(tmp_path / "in", rows)
    spoil(folder)
    found = assert_refused(folder, tmp_path / "out", message)
    assert found.startswith(str(folder))
