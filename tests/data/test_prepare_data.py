"""prepare and datasets: what they print, open and read, also without TensorFlow."""

import numpy as np
import pytest

from deepfer_jax.data import datasets
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.fer2013 import OFFICIAL_COUNTS
from deepfer_jax.data.prepare import (
    compare_with_official,
    describe_duplicates,
    format_counts,
    prepare,
)
from deepfer_jax.errors import UserError
from tests.data.test_image_folder import write_faces
from tests.fer_files import all_rows, random_rows, write_csv

SCRIPT = "scripts/prepare_data.py"
BEAM_OPTIONS = "runner=DirectRunner,direct_num_workers=1"


@pytest.fixture(scope="module")
def csv_dir(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("csv"), all_rows())


@pytest.fixture(scope="module")
def prepared(csv_dir, tmp_path_factory):
    """Data directories by file format."""
    folders = {}
    for file_format in ("tfrecord", "array_record"):
        folders[file_format] = tmp_path_factory.mktemp(file_format)
        prepare("fer2013", csv_dir, folders[file_format], file_format)
    return folders


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_preparing_again_says_so_and_counts_again(prepared, file_format, capsys):
    folder = prepared[file_format]
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    counts = prepare("fer2013", None, folder, file_format)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == files
    assert {name: row.tolist() for name, row in counts.items()} == {
        "train": [2] * 7,
        "public_test": [1] * 7,
        "private_test": [2] + [1] * 6,
    }
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("fer2013 is prepared already: ")
    assert out[1].split() == [*EMOTIONS, "all"]
    assert out[2].split() == ["train", *["2"] * 7, "14"]
    assert out[4].split() == ["private_test", "2", *["1"] * 6, "8"]
    assert len({len(line) for line in out[1:5]}) == 1


@pytest.mark.parametrize(
    ("there", "other"),
    [("tfrecord", "array_record"), ("array_record", "tfrecord")],
)
def test_another_file_format_needs_another_data_dir(prepared, csv_dir, there, other):
    message = f"is prepared as {there}: give another --data_dir for {other}"
    with pytest.raises(UserError, match=message):
        prepare("fer2013", csv_dir, prepared[there], other)


def test_both_file_formats_hold_the_same(prepared):
    first, second = (
        datasets.load_builder("fer2013", folder) for folder in prepared.values()
    )
    assert first.info.file_format != second.info.file_format
    assert set(first.info.splits) == set(second.info.splits)
    for split in first.info.splits:
        a, b = datasets.load_split(first, split), datasets.load_split(second, split)
        assert a["id"] == b["id"]
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["label"], b["label"])
        assert a["image"].dtype == b["image"].dtype == np.uint8
        assert a["label"].dtype == b["label"].dtype == np.int32


def test_nothing_but_the_data_set_is_left(prepared):
    for folder in prepared.values():
        assert [path.name for path in folder.iterdir()] == ["fer2013"]
        assert [path.name for path in (folder / "fer2013").iterdir()] == ["1.0.0"]


def test_synthetic_faces_need_no_files(tmp_path, capsys):
    counts = prepare("synthetic_faces/small", None, tmp_path, "array_record")
    assert list(counts) == ["train", "validation", "test"]
    assert all(len(set(row)) == 1 for row in counts.values())
    assert "official" not in capsys.readouterr().out


def test_data_dir_that_is_a_file(csv_dir, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match=f"cannot prepare the data: .*{tmp_path}/out"):
        prepare("fer2013", csv_dir, tmp_path / "out", "array_record")


def test_official_counts():
    counts = {name: np.array(row) for name, row in OFFICIAL_COUNTS.items()}
    assert {name: row.sum() for name, row in counts.items()} == {
        "train": 28_709,
        "public_test": 3_589,
        "private_test": 3_589,
    }
    text = compare_with_official(counts)
    assert text.count("official") == 3
    assert "warning" not in text
    counts["train"] = counts["train"] + [0, -1, 0, 1200, 0, 0, 0]
    del counts["private_test"]
    assert compare_with_official(counts).splitlines() == [
        "warning: train differs from the official number of faces: disgust -1, "
        "happy +1,200",
        "public_test: the official number of faces of every class",
        "private_test: not in these files",
    ]


def test_counts_are_aligned():
    table = format_counts(
        {"train": np.arange(7) * 1000, "public_test": np.ones(7, int)}, EMOTIONS
    )
    assert len({len(line) for line in table.splitlines()}) == 1
    line = " ".join(table.splitlines()[1].split())
    assert line == "train 0 1,000 2,000 3,000 4,000 5,000 6,000 21,000"


def test_long_names_of_classes_are_set_apart():
    header, row = format_counts(
        {"test": np.array([3, 4])}, ["happy", "very long name"]
    ).splitlines()
    assert header.split() == ["happy", "very", "long", "name", "all"]
    assert header.index("name") + len("name") == row.index("4") + 1
    assert len(header) == len(row)


def test_duplicates_within_across_and_in_conflict(tmp_path, capsys):
    rows = random_rows("Training", 14) + random_rows("PublicTest", 7)
    twice = dict(rows[1])  # within train, same label
    thrice = rows[2] | {"Usage": "PublicTest"}  # across, same label
    conflict = rows[3] | {"Usage": "PublicTest", "emotion": 0}  # across, another label
    rows += [twice, thrice, dict(thrice), conflict]
    one_pixel = rows[5]["pixels"].copy()
    one_pixel[7, 9] ^= 1
    rows.append(rows[5] | {"pixels": one_pixel})  # nearly a duplicate
    folder = write_csv(tmp_path / "in", rows)
    prepare("fer2013", folder, tmp_path / "out", "array_record")
    assert capsys.readouterr().out.splitlines()[-1] == (
        "exact duplicates: 3 groups of 7 faces; 2 groups lie across splits, "
        "1 have conflicting labels"
    )


def test_no_duplicates():
    split = {
        "digest": [b"a", b"b", b"c"],
        "label": np.zeros(3, np.int32),
    }
    assert describe_duplicates({"train": split}).startswith(
        "exact duplicates: 0 groups of 0 faces"
    )


def test_load_builder_gives_the_command(tmp_path):
    with pytest.raises(UserError) as caught:
        datasets.load_builder("fer2013", tmp_path / "my data")
    assert str(caught.value) == (
        f"fer2013 is not prepared in {tmp_path}/my data: run\n"
        "  python scripts/prepare_data.py --dataset fer2013 "
        f"--manual_dir FOLDER_OF_FILES --data_dir '{tmp_path}/my data'"
    )
    assert not (tmp_path / "my data").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fer2012", r"expected one of \['fer2013', .*found 'fer2012'"),
        ("synthetic_faces/big", r"expected one of \['full', 'small'\].*found 'big'"),
    ],
)
def test_unknown_names(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        datasets.load_builder(name, tmp_path)


def test_unknown_split_names_those_there_are(prepared):
    builder = datasets.load_builder("fer2013", prepared["array_record"])
    message = r"\['private_test', 'public_test', 'train'\], found 'test'"
    with pytest.raises(UserError, match=message):
        datasets.load_split(builder, "test")


def test_a_folder_that_lost_its_description(tmp_path):
    (tmp_path / "fer2013" / "1.0.0").mkdir(parents=True)
    with pytest.raises(UserError, match=r"1\.0\.0 holds no whole data set: remove"):
        datasets.load_builder("fer2013", tmp_path)
    with pytest.raises(UserError, match=r"1\.0\.0 holds no whole data set: remove"):
        prepare("fer2013", tmp_path, tmp_path, "array_record")


def test_without_tensorflow(run_python, prepared, csv_dir, tmp_path):
    """array_record is prepared and read; tfrecord is refused with the way out."""
    run_python(
        "-c",
        f"""
import sys
import tests.no_tensorflow
from deepfer_jax.data import datasets
from deepfer_jax.data.prepare import prepare
from deepfer_jax.errors import UserError

assert datasets.default_file_format() == "array_record"
counts = prepare("fer2013", {str(csv_dir)!r}, {str(tmp_path)!r}, "array_record")
assert counts["train"].tolist() == [2] * 7
faces = datasets.load_split(
    datasets.load_builder("fer2013", {str(tmp_path)!r}), "train"
)
assert faces["image"].shape == (14, 48, 48, 1)
tfrecord = datasets.load_builder("fer2013", {str(prepared["tfrecord"])!r})
for function, arguments in [
    (datasets.load_split, (tfrecord, "train")),
    (prepare, ("fer2013", {str(csv_dir)!r}, {str(tmp_path / "tf")!r}, "tfrecord")),
]:
    try:
        function(*arguments)
    except UserError as error:
        assert "needs TensorFlow" in str(error), error
        assert "--file_format array_record" in str(error), error
    else:
        raise AssertionError(function)
assert "tensorflow" not in sys.modules
""",
    )


def test_command_line(run_python, csv_dir, tmp_path):
    options = ["--dataset", "fer2013", "--data_dir", tmp_path / "out"]
    result = run_python(SCRIPT, *options, "--manual_dir", csv_dir)
    assert "train" in result.stdout
    assert "exact duplicates: 0 groups" in result.stdout
    builder = datasets.load_builder("fer2013", tmp_path / "out")
    assert builder.info.file_format.value == datasets.default_file_format()


def test_command_line_shows_a_mistake_in_one_line(run_python, tmp_path):
    rows = random_rows("Training")
    rows[3]["emotion"] = 9
    write_csv(tmp_path / "in", rows)
    result = run_python(
        SCRIPT,
        *("--dataset", "fer2013", "--manual_dir", tmp_path / "in"),
        *("--data_dir", tmp_path / "out", "--file_format", "array_record"),
        check=False,
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.strip() == (
        f"error: {tmp_path}/in/fer2013.csv, line 5: emotion: expected 0 to 6, found '9'"
    )
    assert not list((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_beam_prepares_the_same(file_format, tmp_path):
    pytest.importorskip("apache_beam")
    folder = tmp_path / "faces"
    write_faces(folder, ["angry", "happy", "sad"], 9)
    stored = {}
    for name, more in (("plain", {}), ("beam", {"beam_options": BEAM_OPTIONS})):
        data_dir = tmp_path / name
        counts = prepare("image_folder/mine", folder, data_dir, file_format, **more)
        builder = datasets.load_builder("image_folder/mine", data_dir)
        splits = datasets.ordered_splits(builder)
        stored[name] = {x: datasets.load_split(builder, x) for x in splits}
        assert [path.name for path in data_dir.iterdir()] == ["image_folder"]
        assert {x: int(row.sum()) for x, row in counts.items()} == {
            "train": 24,
            "validation": 3,
        }
    for split, faces in stored["plain"].items():
        others = stored["beam"][split]
        assert others["id"] == faces["id"]
        np.testing.assert_array_equal(others["label"], faces["label"])
        np.testing.assert_array_equal(others["image"], faces["image"])


@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_beam_names_what_is_wrong_as_well(mode, tmp_path):
    pytest.importorskip("apache_beam")
    folder = tmp_path / "faces"
    write_faces(folder, ["angry", "happy", "sad"], 5)
    (folder / "sad" / "x.png").write_bytes(b"no picture")
    options = f"{BEAM_OPTIONS},direct_running_mode={mode}"
    data_dir = tmp_path / "data"
    with pytest.raises(UserError, match=r"x\.png: not a whole.*to a PNG file$"):
        prepare("image_folder/mine", folder, data_dir, "tfrecord", options)
    assert list(data_dir.iterdir()) == []


def test_beam_is_for_folders(csv_dir, tmp_path):
    with pytest.raises(UserError, match=r"--beam_options: only of a data set image"):
        prepare("fer2013", csv_dir, tmp_path, "tfrecord", BEAM_OPTIONS)
