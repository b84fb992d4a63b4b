"""executables: what is compiled is kept; what is damaged or foreign is not believed."""

import concurrent.futures
import logging
import os
import stat

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from PIL import Image

from deepfer_jax import executables
from deepfer_jax.executables import Executable


def export(factor):
    """A program that sorts, which a CPU's executable keeps in a way of its own."""
    (num,) = jax.export.symbolic_shape("n")
    return jax.export.export(jax.jit(lambda x: jnp.sort(x * factor)))(
        jax.ShapeDtypeStruct((num,), jnp.float32)
    )


DOUBLE = export(2.0)
X = np.array([3, 1, 2], np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where executables are kept; a test's own, as if jax's cache were not set up."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()  # it is opened once, whatever is configured later
    executables._open.cache_clear()
    yield tmp_path / "deepfer_jax"
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


@pytest.fixture
def compiles(monkeypatch):
    """The shapes that are compiled for, as they come."""
    shapes = []

    def note(message, *args):
        shapes.append(args[0])

    monkeypatch.setattr(executables._log, "info", note)
    return shapes


def check(executable, factor=2.0):
    np.testing.assert_array_equal(executable(X), np.sort(X * factor))


def test_the_second_time_nothing_is_compiled(folder, compiles):
    check(Executable(DOUBLE))
    assert compiles == ["3"]
    (path,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    check(Executable(DOUBLE))
    assert compiles == ["3"]
    check(Executable(export(3.0)), 3.0)
    Executable(DOUBLE)(X[:2])
    Executable(
        DOUBLE, compiler_options={"xla_disable_hlo_passes": "tree_reduction_rewriter"}
    )(X)
    assert compiles == ["3", "3", "2", "3"]
    assert len(list(folder.iterdir())) == 4


def test_a_loaded_program_is_called_by_many_threads(folder, compiles):
    check(Executable(DOUBLE))
    again = Executable(DOUBLE)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check(again), range(64)))
    assert len(compiles) == len(again.compiled) == 1


def test_another_process_loads_it_on_one_of_many_devices(folder, run_python):
    """The name tells machines, flags and versions apart: here the flags."""
    code = (
        "import numpy as np, logging; logging.basicConfig(level='INFO')\n"
        "from tests.test_executables import DOUBLE, Executable, check\n"
        "check(Executable(DOUBLE))\n"
    )
    flags = "--xla_force_host_platform_device_count=3"
    env = {"XDG_CACHE_HOME": str(folder.parent), "JAX_COMPILATION_CACHE_DIR": ""}
    outputs = [
        run_python("-c", code, env=env | more).stderr
        for more in ({}, {}, {"XLA_FLAGS": flags}, {"XLA_FLAGS": flags})
    ]
    found = ["compiling for inputs of 3" in text for text in outputs]
    assert found == [True, False, True, False]
    assert not any("cannot be loaded" in text for text in outputs)


def swap(path):
    """A good file of another program under this one's name."""
    other = export(5.0)
    check(Executable(other), 5.0)
    (theirs,) = (p for p in path.parent.iterdir() if p != path)
    theirs.replace(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\0"),
        lambda path: path.write_bytes(
            executables._digest(path, b"no pickle") + b"no pickle"
        ),
        lambda path: path.chmod(0o666),
        swap,
    ],
    ids=["empty", "cut off", "a bit", "no pickle", "writable by others", "renamed"],
)
def test_what_is_damaged_or_foreign_is_compiled_again(folder, compiles, caplog, damage):
    check(Executable(DOUBLE))
    (path,) = folder.iterdir()
    damage(path)
    compiles.clear()
    check(Executable(DOUBLE))
    assert compiles == ["3"]
    assert f"{path} cannot be loaded" in caplog.text
    check(Executable(DOUBLE))  # and is good again
    assert compiles == ["3"]


def test_a_folder_of_others_is_refused(folder, compiles, caplog, monkeypatch):
    for mode in (0o777, 0o1777, 0o770):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
        executables._open.cache_clear()
        caplog.clear()
        check(Executable(DOUBLE))
        check(Executable(DOUBLE))
        assert caplog.text.count("others may write there") == 1
        assert list(folder.iterdir()) == []
    folder.chmod(0o700)
    executables._open.cache_clear()
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    check(Executable(DOUBLE))
    assert "it belongs to another user" in caplog.text
    assert list(folder.iterdir()) == []


def test_without_a_folder_or_a_home_it_goes_on(folder, compiles, caplog, monkeypatch):
    folder.write_text("not a folder")
    check(Executable(DOUBLE))
    assert f"not kept in {folder}: File exists" in caplog.text
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", fail)
    check(Executable(DOUBLE))
    assert "not kept: no home" in caplog.text


def fail(*args, **kwargs):
    raise RuntimeError("no home")


def test_a_full_disk_and_what_cannot_be_written(folder, compiles, caplog, monkeypatch):
    monkeypatch.setattr(executables.serialize_executable, "serialize", fail)
    check(Executable(DOUBLE))
    assert "a compiled program is not kept" in caplog.text


def test_it_can_be_switched_off(folder, compiles, monkeypatch):
    check(Executable(DOUBLE, cache=False))
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        check(Executable(DOUBLE))
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(folder.parent / "jax"))
    check(Executable(DOUBLE))
    assert len(compiles) == 3
    assert not folder.exists()


@pytest.mark.parametrize(
    ("command", "num_files"),
    [
        ("predict.py", 1),
        ("predict.py --no-cache", 0),
        ("predict.py --face", 1),
        ("predict.py --face --no-cache", 0),
        ("video.py --no-cache", 0),
    ],
)
def test_commands_keep_what_they_compile_unless_told(
    folder, tmp_path, run_python, command, num_files
):
    pytest.importorskip("tqdm")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (320, 240)).save(tmp_path / "photos" / "a.png")
    env = {"XDG_CACHE_HOME": str(folder.parent), "JAX_COMPILATION_CACHE_DIR": ""}
    run_python(*f"scripts/{command}".split(), tmp_path / "photos", env=env, fresh=True)
    files = list(folder.iterdir()) if folder.exists() else []
    assert len(files) == num_files


def test_jax_is_left_as_it_was(folder):
    before = dict(jax.config.values)
    check(Executable(DOUBLE))
    check(Executable(DOUBLE))
    assert dict(jax.config.values) == before


def test_the_oldest_are_forgotten(folder, compiles, monkeypatch):
    monkeypatch.setattr(executables, "_MAX_FILES", 2)
    for num in (1, 2, 3):
        Executable(DOUBLE)(X[:num])
        for path in folder.iterdir():
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 100))
    assert len(list(folder.iterdir())) == 2
    for num in (3, 2, 1):
        Executable(DOUBLE)(X[:num])
    assert compiles == ["1", "2", "3", "1"]


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache"),
        ("linux", {}, "/home/me/.cache"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/me/Library/Caches"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local"),
        ("win32", {}, "/home/me/AppData/Local"),
    ],
)
def test_the_customary_folder(monkeypatch, system, environment, expected):
    monkeypatch.setattr("sys.platform", system)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    assert executables._customary_folder().as_posix() == expected


def test_an_option_that_jax_does_not_know_is_left_out(folder, caplog):
    with caplog.at_level(logging.WARNING):
        check(
            Executable(
                DOUBLE, compiler_options={"xla_no_such_option_of_executables": "1"}
            )
        )
    assert "does without" in caplog.text
