"""Exported programs, compiled once for each shape of their inputs, and kept on disk.

    classify = Executable(*model.load("model.jax_export"))
    probabilities = classify(images)      # compiles, or loads what was compiled before

Compiling takes seconds; loading what another process has compiled, a tenth of one.
Executables are kept in `deepfer_jax` in the user's cache folder ($XDG_CACHE_HOME or
~/.cache, ~/Library/Caches on macOS, %LOCALAPPDATA% on Windows), about 2 MB each and 50
at most. What is found there is run: so that folder and its files must belong to the
user, and nobody else may write them; otherwise nothing is loaded or kept, and the log
says so. What cannot be loaded is compiled again.

This is not jax's compilation cache, which is one for the whole process: a library that
turned it on would change what its host program does, and a start takes twice as long,
because jax needs the lowered program to look for it. Where the user has set it up
(JAX_COMPILATION_CACHE_DIR) or turned it off (JAX_ENABLE_COMPILATION_CACHE=false),
nothing is kept here.
"""

import functools
import hashlib
import logging
import os
import pathlib
import pickle
import platform
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import jaxlib
import numpy as np
from jax.experimental import serialize_executable

from deepfer_jax import parallel

_MAX_FILES = 50
_DIGEST_SIZE = hashlib.sha256().digest_size

_log = logging.getLogger(__name__)


class Executable:
    """Calls an exported program; may be called by several threads at once.

    Args:
      program: of `jax.export`.
      weights: what the program takes first, as one tuple; () for one that takes none.
        They are brought to a device once.
      build_again: `ExportedModel.build_again` for this program, where it turns out
        while compiling that this jax cannot read it.
      compiler_options: of XLA, beside `parallel.compiler_options`; those that the
        installed jax does not know are left out.
      cache: False neither loads nor keeps anything.

    Attributes:
      compiled: what this process has compiled or loaded, by device and shapes.
    """

    def __init__(
        self,
        program: jax.export.Exported,
        weights: Sequence[np.ndarray] = (),
        compiler_options: dict[str, Any] | None = None,
        cache: bool = True,
        build_again: Callable[[Exception], jax.export.Exported] | None = None,
    ):
        self._program, self._build_again = program, build_again
        self._weights = tuple(weights)
        self._placed: dict[Any, Any] = {}
        self._options = parallel.compiler_options() | (compiler_options or {})
        self._cache = cache
        self._lock = threading.Lock()
        self.compiled: dict[tuple, jax.stages.Compiled] = {}

    def __call__(self, *arrays: np.ndarray) -> Any:
        """The program's results for these arrays, on jax's default device."""
        device = jax.config.jax_default_device  # type: ignore[attr-defined]
        if not isinstance(device, jax.Device):  # None, or a platform's name
            device = jax.devices(device)[0]
        which = (device, *((x.shape, x.dtype.str) for x in arrays))
        compiled = self.compiled.get(which)
        if compiled is None:
            with self._lock:  # many threads, one compilation
                compiled = self.compiled.get(which)
                if compiled is None:
                    self._place(device)
                    compiled = self._load_or_compile(device, arrays)
                    self.compiled[which] = compiled
        return compiled(*self._placed[device], *arrays)

    def _place(self, device: jax.Device) -> None:
        if device not in self._placed:
            weights = jax.device_put(self._weights, device)
            self._placed[device] = (weights,) if weights else ()

    def _load_or_compile(
        self, device: jax.Device, arrays: tuple[np.ndarray, ...]
    ) -> jax.stages.Compiled:
        folder = open_folder() if self._cache else None
        if folder:
            path = folder / self._name(device, arrays)
            if compiled := _load(path, device):
                return compiled
        shapes = ", ".join("x".join(map(str, x.shape)) for x in arrays)
        _log.info("compiling for inputs of %s", shapes)
        lowered = self._lower(*self._placed[device], *arrays)
        try:
            compiled = lowered.compile(self._options)
        except jax.errors.JaxRuntimeError:  # asking first would compile twice more
            compiled = lowered.compile(parallel.known_compiler_options(self._options))
        if folder:
            # Before the first call: a CPU's sorts cannot be written after it.
            _save(compiled, path)
        return compiled

    def _lower(self, *arguments: Any) -> jax.stages.Lowered:
        try:
            return jax.jit(self._program.call).lower(*arguments)
        except Exception as error:  # not documented, of one it cannot read
            if self._build_again is None:
                raise
            self._program = self._build_again(error)
            return jax.jit(self._program.call).lower(*arguments)

    def _name(self, device: jax.Device, arrays: tuple[np.ndarray, ...]) -> str:
        """A file's name: a hash of all that the executable depends on."""
        parts = (
            hashlib.sha256(self._program.mlir_module_serialized).hexdigest(),
            [(x.shape, x.dtype.str) for x in (*self._weights, *arrays)],
            sorted(self._options.items()),
            (jax.__version__, jaxlib.__version__, sys.version_info[:2]),
            (device.platform, device.device_kind, device.id),
            device.client.platform_version,
            [os.environ.get(name) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")],
            _describe_processors(),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def _describe_processors() -> tuple:
    """How many and of which kind: a home may be shared by machines that differ."""
    try:
        first = pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:  # only Linux has it
        return os.cpu_count(), platform.machine(), platform.version()
    kinds = ("model name", "flags", "Features")
    lines = [line for line in first.splitlines() if line.startswith(kinds)]
    return len(os.sched_getaffinity(0)), platform.machine(), lines


def open_folder() -> pathlib.Path | None:
    """The folder of executables, made if it is missing; None if nothing may be kept."""
    config: Any = jax.config
    if not config.jax_enable_compilation_cache or config.jax_compilation_cache_dir:
        return None
    try:
        return _open(_customary_folder() / "deepfer_jax")
    except RuntimeError as error:  # no home
        _log.warning("compiled programs are not kept: %s", error)
        return None


def _customary_folder() -> pathlib.Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return pathlib.Path(local or pathlib.Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return pathlib.Path.home() / "Library" / "Caches"
    named = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative one is to be ignored, says the XDG Base Directory Specification.
    return named if named.is_absolute() else pathlib.Path.home() / ".cache"


@functools.cache  # one line in the log is enough
def _open(folder: pathlib.Path) -> pathlib.Path | None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(folder.stat())
    except OSError as error:
        _log.warning(
            "compiled programs are not kept in %s: %s", folder, error.strerror or error
        )
        return None
    return folder


def _check_owner(status: os.stat_result) -> None:
    """Raises PermissionError for what others own or may write."""
    if not hasattr(os, "geteuid"):
        return  # Windows: what lies in a user's profile is the user's
    if status.st_uid != os.geteuid():
        raise PermissionError("it belongs to another user")
    if status.st_mode & 0o022:
        raise PermissionError("others may write there")


def _load(path: pathlib.Path, device: jax.Device) -> jax.stages.Compiled | None:
    """What `_save` wrote there; None if nothing is there, or not that."""
    try:
        with path.open("rb") as file:
            _check_owner(os.fstat(file.fileno()))
            data = file.read()
        digest, data = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
        if digest != _digest(path, data):
            raise ValueError("damaged")
        parts = pickle.loads(data)
        where = {"backend": device.client, "execution_devices": [device]}
        return serialize_executable.deserialize_and_load(*parts, **where)
    except FileNotFoundError:
        return None
    except Exception as error:  # what a bad executable raises is not documented
        _log.warning("%s cannot be loaded (%s): compiling again", path, error)
        return None


def _save(compiled: jax.stages.Compiled, path: pathlib.Path) -> None:
    """Writes an executable; where that cannot be done, the log says why."""
    try:
        data = pickle.dumps(serialize_executable.serialize(compiled))
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(_digest(path, data) + data)
        pathlib.Path(file.name).replace(path)  # whole, or not at all
        files = sorted(path.parent.iterdir(), key=os.path.getmtime)
        for old in files[:-_MAX_FILES]:
            old.unlink(missing_ok=True)
    except Exception as error:  # a full disk, or a device that cannot do it
        _log.warning("a compiled program is not kept in %s: %s", path.parent, error)


def _digest(path: pathlib.Path, data: bytes) -> bytes:
    """Of the name too: one that was renamed is another's."""
    return hashlib.sha256(path.name.encode() + data).digest()
