"""An exported model: found by name or folder, checked against its sums, and read.

    model = ExportedModel("small")                  # one that ships
    model = ExportedModel("models/mine")            # what scripts/export.py wrote
    program, weights = model.load("model.jax_export")
    probabilities = program.call(weights, images)

A folder holds metadata.json, params.safetensors and programs, which take the weights as
their first argument, so that they lie there once. `metadata["sha256"]` has the digest
of every file, and of metadata's own other fields; what does not agree is refused. Where
this jax cannot read a program, it is built again from the parameters, which needs what
training needs. This file needs jax, numpy and the standard library only.
"""

import hashlib
import json
import logging
import os
import pathlib

import jax
import jax.export
import numpy as np

from deepfer_jax.errors import UserError

METADATA = "metadata.json"
PARAMETERS = "params.safetensors"
ASSETS = pathlib.Path(__file__).parent / "assets"
_DTYPES = {"F32": np.float32, "F16": np.float16}

_log = logging.getLogger(__name__)


class ModelError(UserError):
    """The model folder, or what the model was given, cannot be used."""


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in ASSETS.glob(f"*/{METADATA}"))


def find_model(model: str | os.PathLike) -> pathlib.Path:
    """The folder of a model that ships, by its name, or of another.

    A name that ships means that one, whatever folders there are: `./tiny` is a folder.

    Raises:
      ModelError: neither; it names what ships.
    """
    name = os.fspath(model)
    if name in shipped_models():
        return ASSETS / name
    folder = pathlib.Path(name)
    if not (folder / METADATA).is_file():
        raise ModelError(
            f"{folder / METADATA} is missing: {name} is no exported model (make one "
            "with python scripts/export.py --workdir RUN --out MODEL) and none of "
            f"those that ship: {', '.join(shipped_models())}"
        )
    return folder


def digest_of_fields(metadata: dict) -> str:
    """SHA-256 of all that metadata says but its digests."""
    rest = {name: x for name, x in metadata.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def checksum(metadata: dict) -> str:
    """SHA-256 of all that a model's folder holds, by its metadata's digests."""
    sums = metadata.get("sha256") or {METADATA: digest_of_fields(metadata)}
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()


class ExportedModel:
    """A folder that scripts/export.py wrote.

    Args:
      model: the name of one that ships, or a folder.

    Attributes:
      folder: where it is.
      metadata: what is known of it; `classes`, `input`, `calibration`, ...

    Raises:
      ModelError: there is no such model, or its metadata is damaged.
    """

    def __init__(self, model: str | os.PathLike):
        self.folder = find_model(model)
        path = self.folder / METADATA
        try:
            self.metadata = json.loads(path.read_bytes())
            self._sums = self.metadata.get("sha256")
            _ = self.metadata["classes"], self.metadata["input"]["shape"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{path} is damaged ({type(error).__name__}: {error}): export the "
                "model again"
            ) from None
        if self._sums is None:
            _log.warning("%s has no digests: damage would not be noticed", path)
        elif self._sums.get(METADATA) != digest_of_fields(self.metadata):
            raise ModelError(f"{path} was changed: export the model again")

    def read(self, name: str) -> bytes:
        """Returns a file's bytes.

        Raises:
          ModelError: it is missing, or not as it was exported.
        """
        path = self.folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            reason = "is missing" if not path.exists() else f"({error.strerror})"
            raise ModelError(f"{path} {reason}: export the model again") from None
        digest = hashlib.sha256(data).hexdigest()
        if self._sums is not None and self._sums.get(name) != digest:
            raise ModelError(f"{path} is damaged: export the model again")
        return data

    def weights(self) -> tuple[np.ndarray, ...]:
        """What programs take first: float32 arrays, in the order they were exported.

        Those of a model from before programs took them are inside: ().

        Raises:
          ModelError: params.safetensors is missing or damaged.
        """
        names = self.metadata.get("weights")
        if names is None:
            return ()
        try:
            tensors = read_tensors(self.read(PARAMETERS))
            return tuple(np.asarray(tensors[name], np.float32) for name in names)
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(
                f"{self.folder / PARAMETERS} is damaged ({error}): export the model "
                "again"
            ) from None

    def program(self, name: str) -> jax.export.Exported:
        """Returns one of the programs.

        Raises:
          ModelError: it is missing or damaged, or this jax cannot read it and what
            builds it again is not installed.
        """
        data = self.read(name)
        try:
            return jax.export.deserialize(bytearray(data))
        except Exception as error:  # what a bad buffer raises is not documented
            return self.build_again(name, error)

    def load(self, name: str) -> tuple[jax.export.Exported, tuple[np.ndarray, ...]]:
        """Returns a program and its weights, which fit each other.

        Raises:
          ModelError: as for `program` and `weights`, or a weight of another shape.
        """
        program, weights = self.program(name), self.weights()
        names = self.metadata.get("weights", ())
        for field, expected, x in zip(names, program.in_avals, weights, strict=False):
            if tuple(expected.shape) != x.shape:
                raise ModelError(
                    f"{self.folder / PARAMETERS}: {field}: expected shape "
                    f"{tuple(expected.shape)}, found {x.shape}: export the model again"
                )
        return program, weights

    def build_again(self, name: str, why: Exception) -> jax.export.Exported:
        """Makes a program from the parameters, for this jax.

        Args:
          name: of the program.
          why: what reading it raised.

        Raises:
          ModelError: what that needs is not installed, or not there.
        """
        made_with = self.metadata.get("versions", {}).get("jax", "an unknown version")
        problem = (
            f"{self.folder / name}: jax {jax.__version__} cannot read this program, "
            f"which was exported with jax {made_with} ({type(why).__name__})"
        )
        try:
            from deepfer_jax import export

            program = export.rebuild(self.folder, self.metadata, name)
        except Exception as error:  # from no module of that name to no such file
            raise ModelError(
                f"{problem}, and it cannot be built again from {PARAMETERS} "
                f"({type(error).__name__}: {error}). Install what that needs, "
                'pip install "deepfer_jax[train]", and perhaps make it lasting:\n'
                f"  python scripts/export.py --model {self.folder} --out NEW_MODEL"
            ) from why
        _log.warning("%s: it was built again from %s", problem, PARAMETERS)
        return program


def read_tensors(data: bytes) -> dict[str, np.ndarray]:
    """Reads a safetensors file: eight bytes of length, a JSON header, the arrays.

    Returns:
      float32 and float16 arrays by name.

    Raises:
      ValueError, KeyError or TypeError: it is not such a file.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, about in header.items():
        first, last = about["data_offsets"]
        values = np.frombuffer(
            data[start + first : start + last], _DTYPES[about["dtype"]]
        )
        tensors[name] = values.reshape(about["shape"])
    return tensors
