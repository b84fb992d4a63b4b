"""Settings and data shared by the tests: CPU only, offline, small synthetic faces."""

import gc
import os
import pathlib
import shutil
import subprocess
import sys
import tracemalloc  # noqa: F401 (else pytest imports it while garbage is collected)

os.environ["JAX_PLATFORMS"] = "cpu"
# What is compiled once serves all files, workers and processes that tests start.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(
    os.path.join(os.path.dirname(__file__), "..", ".pytest_cache", "jax")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Compiling takes most of the time, and programs of tests run for moments.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
# Shapes of different ranks are mistakes more often than not.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import pytest
from ml_collections import ConfigDict

ROOT = pathlib.Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


from tests.commands import Commands  # noqa: E402

# The files that take longest start first, so that none is left to one worker alone.
LONGEST = ("readme", "models", "end_to_end", "train", "groups")


def pytest_configure():
    """Throws away what was compiled of other sources, once there is much of it."""
    cache = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if not is_worker and sum(x.stat().st_size for x in cache.glob("*")) > 500e6:
        shutil.rmtree(cache)


def pytest_collection_modifyitems(items):
    order = {f"test_{name}.py": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """What a file compiled is of no use to the next, and takes memory."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def run_python():
    """Runs Python in a process of its own, from the repository's root.

    Commands have their libraries already, see tests/commands.py. What tests importing
    itself, as most of `-c` does, needs an interpreter that is fresh.
    """
    commands = Commands()

    def run(*args, check=True, env=(), cwd=ROOT, fresh=None):
        args, env = list(map(str, args)), dict(env)
        if "XLA_FLAGS" in env:
            env["XLA_FLAGS"] += " " + os.environ["XLA_FLAGS"]
        if fresh is None:
            fresh = args[0] == "-c" or "PYTHONPATH" in env
        if fresh:
            result = subprocess.run(
                [sys.executable, *args],
                cwd=cwd,
                env=os.environ | env,
                capture_output=True,
                text=True,
                timeout=300,
            )
        else:
            result = commands.run(args, cwd, env)
        if check and result.returncode:
            pytest.fail(f"{args} exited with {result.returncode}:\n{result.stderr}")
        return result

    yield run
    commands.close()


@pytest.fixture(scope="session")
def small_data_dir(tmp_path_factory):
    """The small synthetic faces, prepared as tfrecord."""
    from deepfer_jax.data.synthetic.builder import SyntheticFaces

    folder = str(tmp_path_factory.mktemp("data"))
    builder = SyntheticFaces(config="small", data_dir=folder, file_format="tfrecord")
    builder.download_and_prepare()
    return folder


@pytest.fixture
def small_config(small_data_dir) -> ConfigDict:
    """A run of seconds: small faces, a small network, two epochs."""
    from tests import small_recipe

    config = small_recipe.get_config()
    config.dataset.data_dir = small_data_dir
    return config
