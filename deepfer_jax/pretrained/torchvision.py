"""ResNet-18, 34 and 50 of torchvision and timm: their names and layouts, and ours.

    architecture, variables = convert(read_tensors("resnet18.safetensors"))

One table says where each tensor goes and how its axes change: convolutions from [out,
in, height, width] to [height, width, in, out], the classifier from [out, in] to [in,
out].
"""

import re
from collections.abc import Mapping
from typing import Any

import flax
import numpy as np

from deepfer_jax.errors import UserError

# Where a layer of the source goes.
_LAYERS = (
    (r"conv1", "stem/conv"),
    (r"bn1", "stem/norm"),
    (r"layer(\d)\.(\d+)\.conv(\d)", r"stage\1/block\2/conv\3"),
    (r"layer(\d)\.(\d+)\.bn(\d)", r"stage\1/block\2/norm\3"),
    (r"layer(\d)\.(\d+)\.downsample\.0", r"stage\1/block\2/downsample/conv"),
    (r"layer(\d)\.(\d+)\.downsample\.1", r"stage\1/block\2/downsample/norm"),
    (r"fc", "head"),
)
# What its tensors are called: (of a convolution or the classifier, of a normalisation).
_NORM_LEAVES = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
_OTHER_LEAVES = {"weight": ("params", "kernel"), "bias": ("params", "bias")}
# Counts batches in training; nothing here needs it.
_IGNORED = re.compile(r".*\.num_batches_tracked$")

# Blocks of each stage, and whether they are bottlenecks.
_ARCHITECTURES = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}


def path_of(name: str) -> str | None:
    """Our path of a tensor, such as params/stem/conv/kernel; None if there is none."""
    layer, _, leaf = name.rpartition(".")
    for pattern, replacement in _LAYERS:
        if re.fullmatch(pattern, layer):
            path = re.sub(pattern, replacement, layer)
            is_norm = path.rpartition("/")[2].startswith("norm")
            leaves = _NORM_LEAVES if is_norm else _OTHER_LEAVES
            if leaf not in leaves:
                return None
            collection, ours = leaves[leaf]
            return f"{collection}/{path}/{ours}"
    return None


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"--skip: {pattern!r} is no regular expression: {error}"
        ) from None


def convert(
    tensors: Mapping[str, np.ndarray], skip: tuple[str, ...] = ()
) -> tuple[str, dict[str, Any]]:
    """Maps every tensor to a path of deepfer_jax.models.resnet.

    Args:
      tensors: by the source's names.
      skip: regular expressions of names to leave out, such as r"fc\\..*".

    Returns:
      The name of the architecture, and nested {params, batch_stats}.

    Raises:
      UserError: names every tensor that has no place, or says which ResNets are known.
    """
    skipped = [_compile(pattern) for pattern in skip]
    flat, unknown = {}, []
    for name, x in tensors.items():
        if _IGNORED.match(name) or any(p.fullmatch(name) for p in skipped):
            continue
        path = path_of(name)
        if path is None:
            unknown.append(f"{name} {tuple(x.shape)}")
            continue
        if path.endswith("/kernel"):
            x = x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T
        flat[path] = np.ascontiguousarray(x, np.float32)
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise UserError(
            f"tensors that no ResNet here has: {', '.join(unknown[:5])}{more}: name "
            "them in --skip if they are not needed"
        )
    return _architecture(flat), flax.traverse_util.unflatten_dict(flat, sep="/")


def to_gray(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Turns the first layer into one of a single channel, by summing its kernel.

    The same function of a gray image as of that image in all three channels, if these
    are normalised alike: the layer pads with zeros and has no bias to correct.
    """
    flat = dict(flax.traverse_util.flatten_dict(variables, sep="/"))
    kernel = flat["params/stem/conv/kernel"]
    flat["params/stem/conv/kernel"] = kernel.sum(2, keepdims=True)
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def _architecture(flat: Mapping[str, np.ndarray]) -> str:
    stages = [
        {p.split("/")[2] for p in flat if p.startswith(f"params/stage{i}/")}
        for i in range(1, 5)
    ]
    blocks = tuple(map(len, stages))
    bottleneck = "params/stage1/block0/conv3/kernel" in flat
    for name, found in _ARCHITECTURES.items():
        if found == (blocks, bottleneck):
            return name
    raise UserError(
        f"expected a ResNet of {', '.join(_ARCHITECTURES)}, found stages of {blocks} "
        f"{'bottlenecks' if bottleneck else 'basic blocks'}"
    )
