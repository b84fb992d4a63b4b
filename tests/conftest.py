"""Settings and data shared by the tests: CPU only, offline, small synthetic faces."""

import os
import pathlib
import subprocess
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
# What is compiled once serves all workers and the processes that tests start.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(
    os.path.join(os.path.dirname(__file__), "..", ".pytest_cache", "jax")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import pytest
from ml_collections import ConfigDict

ROOT = pathlib.Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def run_python():
    """Runs Python in a process of its own, from the repository's root."""

    def run(*args, check=True, env=(), **options):
        result = subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=ROOT,
            env=os.environ | dict(env),
            capture_output=True,
            text=True,
            timeout=300,
            **options,
        )
        if check and result.returncode:
            pytest.fail(f"{args} exited with {result.returncode}:\n{result.stderr}")
        return result

    return run


@pytest.fixture(scope="session")
def small_data_dir(tmp_path_factory):
    """The small synthetic faces, prepared as tfrecord."""
    from deepfer_jax.data.synthetic import SyntheticFaces

    folder = str(tmp_path_factory.mktemp("data"))
    builder = SyntheticFaces(config="small", data_dir=folder, file_format="tfrecord")
    builder.download_and_prepare()
    return folder


@pytest.fixture
def small_config(small_data_dir) -> ConfigDict:
    """A run of seconds: small faces, the tiny network, two epochs."""
    from configs import default

    config = default.get_config()
    config.dataset.name = "synthetic_faces/small"
    config.dataset.data_dir = small_data_dir
    config.train.batch_size = 28
    config.train.num_epochs = 2
    config.train.log_every_steps = 3
    config.optimizer.warmup_epochs = 0.5
    config.lock()
    return config
