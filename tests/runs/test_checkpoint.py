"""checkpoint: round trips, what is kept, and damage that is named and passed over."""

import logging
import os
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deepfer_jax import parallel
from deepfer_jax.errors import UserError
from deepfer_jax.runs.checkpoint import Checkpoints
from deepfer_jax.training.state import TrainState


def make_state(step):
    params = {"layer": {"kernel": jnp.arange(4096.0) * 1.1 + step}}
    return parallel.replicate(
        TrainState(
            step=jnp.asarray(step, jnp.int32),
            params=params,
            batch_stats={"norm": {"mean": jnp.full(3, float(step))}},
            ema={},
            opt_state=optax.adamw(optax.constant_schedule(0.1)).init(params),
        )
    )


@pytest.fixture
def saved(tmp_path):
    """A folder after the steps 10 (accuracy 0.9), 20 (0.5) and 30 (0.6)."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", writable=True)
    for step, accuracy in ((10, 0.9), (20, 0.5), (30, 0.6)):
        checkpoints.save(make_state(step), {"accuracy": accuracy, "epoch": step})
    return checkpoints.folder


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=os.path.getsize)


def test_round_trip_is_exact(saved):
    checkpoints = Checkpoints(saved)
    state = checkpoints.restore(30, like=make_state(0))
    jax.tree.map(np.testing.assert_array_equal, state, make_state(30))
    assert jax.tree.structure(state) == jax.tree.structure(make_state(30))
    arrays = checkpoints.restore_arrays(30)
    np.testing.assert_array_equal(
        arrays["params"]["layer"]["kernel"], state.params["layer"]["kernel"]
    )
    assert arrays["ema"] == {}
    assert checkpoints.metadata(30) == {"accuracy": 0.6, "epoch": 30}


def test_keeps_the_latest_two_and_the_best(saved):
    checkpoints = Checkpoints(saved, writable=True)
    assert checkpoints.steps == [10, 20, 30]
    checkpoints.save(make_state(35), {"accuracy": None, "epoch": 3})
    assert checkpoints.steps == [10, 30, 35]
    assert (checkpoints.best(), checkpoints.newest()) == (10, 35)
    checkpoints.save(make_state(40), {"accuracy": 0.95, "epoch": 4})
    checkpoints.save(make_state(50), {"accuracy": 0.95, "epoch": 5})
    assert checkpoints.best() == 40
    on_disk = {p.name for p in saved.iterdir()}
    assert on_disk == {"40", "40.sha256", "50", "50.sha256"}


def test_an_empty_folder_has_no_newest_and_no_best(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new", writable=True)
    assert checkpoints.newest() is None
    with pytest.raises(UserError, match="no checkpoint with a validation accuracy"):
        checkpoints.best()


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip_bit, truncate, os.unlink])
@pytest.mark.parametrize("which", ["data", "metadata.json"])
def test_damage_is_named_and_an_older_checkpoint_used(saved, damage, which, caplog):
    path = saved / "30" / which if "." in which else largest_file(saved / "30")
    damage(path)
    with caplog.at_level(logging.WARNING):
        checkpoints = Checkpoints(saved, writable=True)
    assert checkpoints.newest() == 20
    wrong = "missing" if damage is os.unlink else "not as it was saved"
    assert f"{path.relative_to(saved)} is {wrong}" in caplog.text
    checkpoints.save(make_state(30), {"accuracy": 0.7, "epoch": 30})
    assert Checkpoints(saved).newest() == 30


def test_a_save_that_was_cut_off_does_not_count(saved, caplog):
    for has_sums in (False, True):  # the last moment is between these two
        shutil.copytree(saved / "30", saved / "40.unfinished")
        if has_sums:
            shutil.copy(saved / "30.sha256", saved / "40.sha256")
        assert Checkpoints(saved).newest() == 30
        assert (saved / "40.unfinished").exists()
        with caplog.at_level(logging.WARNING):
            checkpoints = Checkpoints(saved, writable=True)
        assert checkpoints.newest() == 30
        assert not list(saved.glob("40*"))
    checkpoints.save(make_state(40), {"accuracy": 0.7, "epoch": 40})
    assert Checkpoints(saved).newest() == 40


def test_a_checkpoint_without_its_sums_stops_the_run(saved):
    for step in (10, 20, 30):
        (saved / f"{step}.sha256").unlink()
    with pytest.raises(UserError, match=r"10 has no sums \(10.sha256 is missing\)"):
        Checkpoints(saved, writable=True)
    assert all((saved / str(step) / "metadata.json").exists() for step in (10, 20, 30))
    assert Checkpoints(saved).newest() is None


def test_what_others_put_there_is_left_alone(saved):
    shutil.copytree(saved / "20", saved / "20_backup")
    for name in ("notes.txt", "all.sha256", "x.unfinished"):
        (saved / name).write_text("mine")
    checkpoints = Checkpoints(saved, writable=True)
    assert checkpoints.newest() == 30
    checkpoints.save(make_state(40), {"accuracy": 0.95, "epoch": 4})
    checkpoints.save(make_state(50), {"accuracy": 0.95, "epoch": 5})
    kept = {"20_backup", "notes.txt", "all.sha256", "x.unfinished"}
    assert kept <= {path.name for path in saved.iterdir()}


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is root's to make")
def test_a_full_disk_is_one_error_that_names_the_newest_whole_one(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("no such disk can be made here")
    try:
        checkpoints = Checkpoints(disk / "checkpoints", writable=True)
        for step in range(1, 3):
            checkpoints.save(make_state(step), {"accuracy": 0.5, "epoch": step})
        (disk / "others").write_bytes(b"x" * 100_000)
        with pytest.raises(UserError, match=r"step 3 .*newest whole one is of step 2"):
            checkpoints.save(make_state(3), {"accuracy": 0.6, "epoch": 3})
        assert Checkpoints(disk / "checkpoints").newest() == 2
        assert not list((disk / "checkpoints").glob("3*"))
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_all_damaged_is_an_error_and_nothing_is_removed(saved):
    for step in (10, 20, 30):
        flip_bit(largest_file(saved / str(step)))
    with pytest.raises(UserError, match=r"(?s)every checkpoint.* 10: .* 20: .* 30: "):
        Checkpoints(saved, writable=True)
    assert (saved / "10").exists()


def test_a_missing_folder_of_a_checkpoint_is_named(saved, caplog):
    for path in sorted((saved / "30").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (saved / "30").rmdir()
    with caplog.at_level(logging.WARNING):
        assert Checkpoints(saved).newest() == 20
    assert "30/metadata.json is missing" in caplog.text
