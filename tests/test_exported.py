"""exported: damage is noticed, what is unreadable is built again, names and folders."""

import hashlib
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from deepfer_jax.errors import UserError
from deepfer_jax.export import export_again
from deepfer_jax.exported import (
    ASSETS,
    METADATA,
    PARAMETERS,
    ExportedModel,
    ModelError,
    digest_of_fields,
    read_tensors,
    shipped_models,
)
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.inference import ARTEFACT, DEFAULT_MODEL, Predictor

FACES = np.random.default_rng(0).integers(0, 256, (4, 48, 48)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A copy of the model that ships."""
    return pathlib.Path(shutil.copytree(ASSETS / DEFAULT_MODEL, tmp_path / "model"))


def sign(folder):
    """Makes the digests agree with the files, as an exporter would."""
    metadata = json.loads((folder / METADATA).read_text())
    for name in metadata["sha256"].keys() - {METADATA}:
        data = (folder / name).read_bytes()
        metadata["sha256"][name] = hashlib.sha256(data).hexdigest()
    metadata["sha256"][METADATA] = digest_of_fields(metadata)
    (folder / METADATA).write_text(json.dumps(metadata))


@pytest.mark.parametrize("name", [ARTEFACT, PARAMETERS, "analyze_full.jax_export"])
@pytest.mark.parametrize("where", [0.0, 0.3, 0.7, 0.99])
def test_one_flipped_bit_is_noticed(folder, name, where):
    data = bytearray((folder / name).read_bytes())
    data[int(where * len(data))] ^= 1
    (folder / name).write_bytes(data)
    load = Analyzer if name.startswith("analyze") else Predictor
    with pytest.raises(ModelError, match=f"{name} is damaged: export the model again"):
        load(folder)


def test_changed_fields_are_noticed(folder):
    metadata = json.loads((folder / METADATA).read_text())
    metadata["classes"] = metadata["classes"][::-1]
    (folder / METADATA).write_text(json.dumps(metadata))
    with pytest.raises(ModelError, match=r"metadata\.json was changed: export"):
        Predictor(folder)


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"classes": []}', "no json"])
def test_metadata_of_another_kind_is_refused(folder, text):
    (folder / METADATA).write_text(text)
    with pytest.raises(ModelError, match=r"metadata\.json is damaged"):
        Predictor(folder)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 20, b"\x02" + b"\0" * 7 + b"{}"])
def test_parameters_that_are_no_such_file_are_refused(folder, damage):
    (folder / PARAMETERS).write_bytes(damage)
    sign(folder)
    with pytest.raises(ModelError, match=r"params\.safetensors is damaged"):
        Predictor(folder)


def test_a_parameter_of_another_shape_is_named(folder, tmp_path):
    tensors = safetensors.numpy.load_file(folder / PARAMETERS)
    tensors["params/head/bias"] = np.zeros(6, np.float32)
    safetensors.numpy.save_file(tensors, folder / PARAMETERS)
    sign(folder)
    message = r"params/head/bias: expected shape \(7,\), found \(6,\)"
    for load in (Predictor, Analyzer):
        with pytest.raises(ModelError, match=message):
            load(folder)
    with pytest.raises(UserError, match=message):
        export_again(folder, tmp_path / "again")


def test_tensors_equal_the_library_s(folder):
    data = (folder / PARAMETERS).read_bytes()
    expected, found = safetensors.numpy.load(data), read_tensors(data)
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x)
        assert found[name].dtype == x.dtype


def test_a_program_that_cannot_be_read_is_built_again(folder, caplog):
    expected = Predictor(folder).predict(FACES)
    (folder / ARTEFACT).write_bytes(b"of a jax of the future")
    (folder / "analyze_full.jax_export").write_bytes(b"of a jax of the future")
    sign(folder)
    predictor = Predictor(folder)
    assert "built again from params.safetensors" in caplog.text
    np.testing.assert_allclose(predictor.predict(FACES), expected, atol=1e-6)
    assert Analyzer(folder).analyze(np.zeros((480, 640, 3), np.uint8)) == [[]]


def test_a_program_that_fails_when_it_is_compiled_is_built_again(folder, monkeypatch):
    expected = Predictor(folder).predict(FACES)
    predictor = Predictor(folder, cache=False)

    class Expired:
        mlir_module_serialized = b""

        def call(self, *_):
            raise ValueError("too old")

    predictor._call._program = Expired()
    np.testing.assert_allclose(predictor.predict(FACES), expected, atol=1e-6)


def test_without_what_builds_it_the_error_says_what_to_install(folder, run_python):
    (folder / ARTEFACT).write_bytes(b"of a jax of the future")
    sign(folder)
    program = (
        "import sys; sys.modules['flax'] = None\n"
        "from deepfer_jax.inference import ModelError, Predictor\n"
        f"try: Predictor({str(folder)!r})\n"
        "except ModelError as error: print(error)"
    )
    said = run_python("-c", program).stdout
    assert f"jax {jax.__version__} cannot read this program" in said
    assert 'pip install "deepfer_jax[train]"' in said


def test_names_are_those_that_ship_whatever_folders_there_are(tmp_path, monkeypatch):
    assert shipped_models() == ["fer2013_tiny", "small", "tiny"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert ExportedModel("tiny").folder == ASSETS / "tiny"
    with pytest.raises(ModelError, match=r"those that ship: fer2013_tiny, small, tiny"):
        ExportedModel("./tiny")
    with pytest.raises(ModelError, match="large is no exported model"):
        Analyzer("large")


def test_what_ships_is_of_the_stated_size():
    sizes = {
        name: sum(path.stat().st_size for path in (ASSETS / name).iterdir())
        for name in shipped_models()
    }
    assert sizes["tiny"] + sizes["small"] < 15e6


@pytest.mark.parametrize("name", shipped_models())
def test_each_that_ships_reads_faces_and_frames(name):
    probabilities = Predictor(name).predict(FACES)
    assert probabilities.shape == (4, 7)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert Analyzer(name).threshold > 0
