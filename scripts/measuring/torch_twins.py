"""The networks of deepfer_jax.models in PyTorch: `create_twin(network, (48, 48, 1))`.

    net = create_twin(network, (48, 48, 1))             # a torch.nn.Module
    copy_variables(net, variables)                      # now it gives the same logits

For tests and benchmarks. A twin is built from the Flax module's own fields and names
its parameters by the same paths, `stage1.block1.conv1.weight` for
`stage1/block1/conv1/kernel`. PyTorch is imported when something here is called, since
nothing else needs it.
"""

import collections
import functools
import re
import types
from typing import Any

import flax.linen as nn
import numpy as np
from flax.traverse_util import flatten_dict

from deepfer_jax.errors import UserError
from deepfer_jax.models import cnn, dlib_resnet, mobilenet, resnet


def import_torch():
    """Returns the module.

    Raises:
      UserError: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise UserError(
            'PyTorch is not installed: pip install "deepfer_jax[parity]" (for a CPU: '
            "pip install torch --index-url https://download.pytorch.org/whl/cpu)"
        ) from None
    return torch


@functools.cache
def _layers() -> types.SimpleNamespace:
    """The modules that torch.nn lacks."""
    torch = import_torch()
    t, functional = torch.nn, torch.nn.functional

    def pad_same(x, kernel, stride):
        """XLA's SAME: what is odd goes to the end, unlike PyTorch's padding."""
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.pad(x, pads) if any(pads) else x

    class SameConv(t.Conv2d):
        def forward(self, x):
            kernel, stride = self.kernel_size[0], self.stride[0]
            convolve = functools.partial(functional.conv2d, groups=self.groups)
            if stride == 1:
                return convolve(x, self.weight, self.bias, 1, kernel // 2)
            return convolve(pad_same(x, kernel, stride), self.weight, self.bias, stride)

    class SameAveragePool(t.Module):
        def forward(self, x):
            return functional.avg_pool2d(pad_same(x, 2, 2), 2)

    class Residual(t.Module):
        """conv1, norm1, conv2, ... beside the input or its `downsample`."""

        def __init__(self, layers: list, downsample):
            super().__init__()
            for i, (conv, norm) in enumerate(layers, start=1):
                setattr(self, f"conv{i}", conv)
                setattr(self, f"norm{i}", norm)
            self.num_layers, self.downsample = len(layers), downsample

        def branch(self, x):
            for i in range(1, self.num_layers + 1):
                x = getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(x))
                x = x.relu_() if i < self.num_layers else x
            return x

        def forward(self, x):
            y = self.branch(x)
            return (y + (x if self.downsample is None else self.downsample(x))).relu_()

    def grow(x, shape):
        """Fills with zeros at the end of channels, height and width."""
        pads = []
        for size, old in zip(reversed(shape), reversed(x.shape[1:]), strict=True):
            pads += [0, size - old]
        return functional.pad(x, pads) if any(pads) else x

    class GrowingConv(t.Conv2d):
        """Unpadded, but an image below the window is filled up to it."""

        def forward(self, x):
            sizes = map(max, x.shape[2:], self.kernel_size)
            return super().forward(grow(x, (x.shape[1], *sizes)))

    class Pooled(Residual):
        """Its shortcut a pool; what is smaller is filled up to the other."""

        def forward(self, x):
            y = self.branch(x)
            if min(x.shape[2:]) > 1:
                x = functional.avg_pool2d(x, 2)
            else:  # PyTorch has no pool of nothing
                x = x[:, :, : x.shape[2] // 2, : x.shape[3] // 2]
            shape = tuple(map(max, x.shape[1:], y.shape[1:]))
            return (grow(x, shape) + grow(y, shape)).relu_()

    class Mean(t.Module):
        def forward(self, x):
            return x.float().mean((2, 3))

    class Flatten(t.Module):
        """In our order: height, width, channels."""

        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1)

    class Head(t.Linear):
        """In float32 whatever the arithmetic before it."""

        def forward(self, x):
            with torch.autocast(x.device.type, enabled=False):
                return super().forward(x.float())

    return types.SimpleNamespace(
        SameConv=SameConv,
        SameAveragePool=SameAveragePool,
        Residual=Residual,
        GrowingConv=GrowingConv,
        Pooled=Pooled,
        Mean=Mean,
        Flatten=Flatten,
        Head=Head,
    )


def _sequential(**modules: Any):
    return import_torch().nn.Sequential(collections.OrderedDict(modules))


def create_twin(network: nn.Module, image_shape: tuple[int, int, int]):
    """Builds the same network in PyTorch, with its own random weights.

    Args:
      network: a module of deepfer_jax.models. Its dropout and type are left out.
      image_shape: (height, width, channels) of a face.

    Returns:
      A torch.nn.Module of float [batch, channels, height, width] -> logits.
    """
    if isinstance(network, cnn.VGG):
        return _vgg(network, image_shape)
    if isinstance(network, resnet.ResNet):
        return _resnet(network, image_shape[-1])
    if isinstance(network, cnn.ResidualCNN):
        return _residual_cnn(network, image_shape[-1])
    if isinstance(network, dlib_resnet.DlibResNet):
        return _dlib_resnet(network, image_shape[-1])
    if isinstance(network, mobilenet.MobileNet):
        return _mobilenet(network, image_shape[-1])
    raise UserError(f"--compare torch: there is no twin of {type(network).__name__}")


def _residual_cnn(network: cnn.ResidualCNN, channels: int):
    t, layers = import_torch().nn, _layers()

    def conv(inputs, outputs, kernel, stride=1):
        return layers.SameConv(inputs, outputs, kernel, stride, bias=False)

    def block(inputs, outputs, stride):
        downsample = None
        if stride > 1 or inputs != outputs:
            pool = layers.SameAveragePool() if stride > 1 else t.Identity()
            downsample = _sequential(
                pool=pool, conv=conv(inputs, outputs, 1), norm=t.BatchNorm2d(outputs)
            )
        main = [
            (conv(inputs, outputs, 3, stride), t.BatchNorm2d(outputs)),
            (conv(outputs, outputs, 3), t.BatchNorm2d(outputs)),
        ]
        return layers.Residual(main, downsample)

    width = network.stem_features
    stem = conv(channels, width, 3, network.stem_stride)
    parts = {
        "stem": _sequential(conv=stem, norm=t.BatchNorm2d(width)),
        "act": t.ReLU(inplace=True),
    }
    return _with_stages(parts, network, width, block)


def _with_stages(parts, network, width: int, block):
    """`parts`, then stages of `block(inputs, outputs, stride)`, then a head."""
    layers = _layers()
    sizes = zip(network.stage_features, network.stage_blocks, strict=True)
    for i, (features, num_blocks) in enumerate(sizes, start=1):
        blocks = {}
        for j in range(1, num_blocks + 1):
            blocks[f"block{j}"] = block(width, features, 2 if i > 1 and j == 1 else 1)
            width = features
        parts[f"stage{i}"] = _sequential(**blocks)
    head = layers.Head(width, network.num_classes)
    return _sequential(**parts, mean=layers.Mean(), head=head)


def _resnet(network: resnet.ResNet, channels: int):
    t, layers = import_torch().nn, _layers()
    expansion = 4 if network.block is resnet.Bottleneck else 1

    def conv(inputs, outputs, kernel, stride=1):
        return t.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)

    def block(inputs, width, stride):
        outputs = expansion * width
        # Channels, kernel and stride of each convolution.
        sizes = [(width, 3, stride), (width, 3, 1)]
        if expansion > 1:
            sizes = [(width, 1, 1), (width, 3, stride), (outputs, 1, 1)]
        main, before = [], inputs
        for features, kernel, step in sizes:
            main.append((conv(before, features, kernel, step), t.BatchNorm2d(features)))
            before = features
        downsample = None
        if stride > 1 or inputs != outputs:
            projection = conv(inputs, outputs, 1, stride)
            downsample = _sequential(conv=projection, norm=t.BatchNorm2d(outputs))
        return layers.Residual(main, downsample)

    small = network.stem == "small"
    stem = conv(channels, 64, 3, 1) if small else conv(channels, 64, 7, 2)
    pool = t.Identity() if small else t.MaxPool2d(3, 2, 1)
    parts = {"stem": _sequential(conv=stem, norm=t.BatchNorm2d(64))}
    parts |= {"act": t.ReLU(inplace=True), "pool": pool}
    before = 64
    for i, num_blocks in enumerate(network.stage_blocks):
        blocks, width = {}, 64 * 2**i
        for j in range(num_blocks):
            blocks[f"block{j}"] = block(before, width, 2 if i > 0 and j == 0 else 1)
            before = expansion * width
        parts[f"stage{i + 1}"] = _sequential(**blocks)
    head = layers.Head(before, network.num_classes)
    return _sequential(**parts, mean=layers.Mean(), head=head)


def _dlib_resnet(network: dlib_resnet.DlibResNet, channels: int):
    t, layers = import_torch().nn, _layers()

    def block(inputs, outputs, stride):
        if stride > 1:
            first, kind = layers.GrowingConv(inputs, outputs, 3, stride), layers.Pooled
        else:
            first, kind = t.Conv2d(inputs, outputs, 3, padding=1), layers.Residual
        second = t.Conv2d(outputs, outputs, 3, padding=1)
        main = [(first, t.BatchNorm2d(outputs)), (second, t.BatchNorm2d(outputs))]
        return kind(main, None)

    width = network.stage_features[0]
    stem = _sequential(conv=t.Conv2d(channels, width, 7, 2), norm=t.BatchNorm2d(width))
    parts = {"stem": stem, "act": t.ReLU(inplace=True), "pool": t.MaxPool2d(3, 2)}
    return _with_stages(parts, network, width, block)


def _mobilenet(network: mobilenet.MobileNet, channels: int):
    t, layers = import_torch().nn, _layers()
    norm = functools.partial(t.BatchNorm2d, eps=mobilenet.EPSILON)
    conv = functools.partial(layers.SameConv, bias=False)

    def block(inputs, outputs, stride):
        return _sequential(
            depthwise=conv(inputs, inputs, 3, stride, groups=inputs),
            norm1=norm(inputs),
            act1=t.ReLU6(inplace=True),
            pointwise=conv(inputs, outputs, 1),
            norm2=norm(outputs),
            act2=t.ReLU6(inplace=True),
        )

    width = mobilenet.STEM_FEATURES
    stem = _sequential(conv=conv(channels, width, 3, 2), norm=norm(width))
    parts = {"stem": stem, "act": t.ReLU6(inplace=True)}
    return _with_stages(parts, network, width, block)


def _vgg(network: cnn.VGG, image_shape: tuple[int, int, int]):
    t, layers = import_torch().nn, _layers()
    height, width, before = image_shape
    parts = {}
    for i, features in enumerate((64, 128, 256, 512), start=1):
        stage = {}
        for j in (1, 2):
            stage[f"conv{j}"] = t.Conv2d(before, features, 3, padding=1)
            stage[f"norm{j}"] = t.BatchNorm2d(features)
            stage[f"act{j}"] = t.ReLU(inplace=True)
            before = features
        parts[f"stage{i}"] = _sequential(**stage, pool=t.MaxPool2d(2))
    return _sequential(
        **parts,
        flatten=layers.Flatten(),
        fc1=t.Linear((height // 16) * (width // 16) * before, 4096),
        act1=t.ReLU(inplace=True),
        fc2=t.Linear(4096, 4096),
        act2=t.ReLU(inplace=True),
        head=layers.Head(4096, network.num_classes),
    )


def copy_variables(net, variables: dict[str, Any]) -> None:
    """Copies Flax {params, batch_stats} into a twin.

    Raises:
      RuntimeError: a name or a shape differs.
    """
    weights = {}
    for tree in (variables["params"], variables.get("batch_stats", {})):
        for path, x in flatten_dict(tree, sep=".").items():
            x = np.asarray(x)
            if path.endswith(".kernel"):  # HWIO -> OIHW; [in, out] -> [out, in]
                x = x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
            name = re.sub(r"(kernel|scale)$", "weight", path)
            name = re.sub(r"(mean|var)$", r"running_\1", name)
            weights[name] = import_torch().from_numpy(np.array(x, order="C"))
    net.load_state_dict(weights)
