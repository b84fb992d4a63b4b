"""MediaPipe's BlazeFace, read from its .tflite files.

    name, variables = convert("face_detection_short_range.tflite")

The files are in the npm package @mediapipe/face_detection (Apache-2.0). Convolutions
come in the order in which the network runs them, which is that of our modules too; the
weights, of half precision, are kept so. Needs the package `tflite`, which reads the
flatbuffer.
"""

import os
import pathlib
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from deepfer_jax.errors import UserError
from deepfer_jax.models.blazeface import BLAZEFACES

LICENCE = "Apache-2.0"


def convert(path: str | os.PathLike) -> tuple[str, dict[str, Any]]:
    """Reads the weights of either detector.

    Returns:
      "short" or "full", and float16 {params} of its network in `BLAZEFACES`.

    Raises:
      UserError: the file is missing, damaged, of another network, or `tflite` is not
        installed.
    """
    layers = _read_convolutions(pathlib.Path(path))
    for name, model in BLAZEFACES.items():
        images = jax.ShapeDtypeStruct((1, model.size, model.size, 3), jnp.float32)
        shapes = _convolutions_in_order(model.network, images)
        if [kernel for _, kernel in shapes] == [k.shape for k, _ in layers]:
            flat = {}
            for (where, _), (kernel, bias) in zip(shapes, layers, strict=True):
                flat[f"{where}/kernel"], flat[f"{where}/bias"] = kernel, bias
            return name, {"params": flax.traverse_util.unflatten_dict(flat, sep="/")}
    raise UserError(
        f"{path}: {len(layers)} convolutions, which are not those of BlazeFace's short "
        "or full range"
    )


def _read_convolutions(path: pathlib.Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel [height, width, in, out] and bias of each convolution, in order."""
    try:
        import tflite
    except ImportError:
        raise UserError(
            f"{path}: a .tflite file is read by the package tflite, which is not "
            'installed: pip install "deepfer_jax[parity]"'
        ) from None
    try:
        model = tflite.Model.GetRootAs(path.read_bytes(), 0)
        graph = model.Subgraphs(0)
        operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
        return _convolutions(tflite, model, graph, operators)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:  # what a bad flatbuffer raises is not documented
        raise UserError(f"{path}: not a whole .tflite file: {error!r}") from None


def _convolutions(tflite, model, graph, operators):
    kinds = tflite.BuiltinOperator
    halves = {}  # what a float32 tensor was before it was widened
    kernels = []

    def read(index: int) -> np.ndarray:
        tensor = graph.Tensors(halves.get(index, index))
        dtype = {tflite.TensorType.FLOAT16: "<f2", tflite.TensorType.FLOAT32: "<f4"}
        data = model.Buffers(tensor.Buffer()).DataAsNumpy()
        values = np.frombuffer(data.tobytes(), dtype[tensor.Type()])
        return values.reshape(tensor.ShapeAsNumpy())

    for operator in operators:
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind == kinds.DEQUANTIZE:
            halves[operator.Outputs(0)] = operator.Inputs(0)
        if kind in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D):
            kernel, bias = read(operator.Inputs(1)), read(operator.Inputs(2))
            axes = (1, 2, 3, 0) if kind == kinds.CONV_2D else (1, 2, 0, 3)
            kernels.append((np.ascontiguousarray(kernel.transpose(axes)), bias))
    return kernels


def _convolutions_in_order(network, images) -> list[tuple[str, tuple[int, ...]]]:
    """Path and kernel's shape of every convolution, in the order of a run."""
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    flat = flax.traverse_util.flatten_dict(variables["params"], sep="/")
    order = []

    def note(next_call, args, kwargs, context):
        where = "/".join(context.module.path)
        if f"{where}/kernel" in flat and context.method_name == "__call__":
            order.append((where, flat[f"{where}/kernel"].shape))
        return next_call(*args, **kwargs)

    with flax.linen.intercept_methods(note):
        jax.eval_shape(network.apply, variables, images)
    return order
