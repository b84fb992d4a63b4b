"""What `measuring.speed` measures of PyTorch: training and inference.

    task = Training(recipe, network, variables, batch)
    task.warm_up()
    num_faces = task()

    predict = create_predict(network, variables, model, 1.0, (48, 48, 1))
    probabilities = predict(faces)

The same on both sides: batch, first weights, arithmetic (bfloat16 by torch.autocast;
float32 may be TF32 on a GPU), normalisation, label smoothing, clipping, the optimiser
with weight decay on kernels alone, and the number of threads on a CPU. Theirs is in
channels_last, has a fused AdamW, and goes through torch.compile on a GPU. Not the same:
ours also computes the accuracy, the norm of the updates and the schedule's rate (theirs
is constant) and runs several steps in one call on an accelerator; PyTorch's running
variances are unbiased.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from measuring import timing
from measuring.torch_twins import copy_variables, create_twin, import_torch
from ml_collections import ConfigDict

from deepfer_jax.errors import UserError
from deepfer_jax.models.preprocess import input_shape


def check_torch() -> str:
    """Returns PyTorch's version.

    Raises:
      UserError: it is not installed, or cannot use the GPU that jax uses.
    """
    torch = import_torch()
    if _device() == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"jax runs on a GPU, but PyTorch {torch.__version__} cannot: install one "
            "with CUDA (pip install torch), or compare on the CPU (JAX_PLATFORMS=cpu)"
        )
    return torch.__version__


def _device() -> str:
    """PyTorch's name of the device that jax uses."""
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


@functools.cache
def _torch():
    """PyTorch set up as jax is: as many threads, and TF32 where XLA takes it."""
    torch = import_torch()
    torch.set_num_threads(timing.num_threads())
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    return torch


def _create_net(
    network: nn.Module,
    variables: Any,
    model: ConfigDict,
    image_shape: tuple[int, int, int],
):
    """A twin with these weights on the device; its parameters in channels_last."""
    net = create_twin(network, input_shape(model, image_shape))
    copy_variables(net, variables)
    return net.to(_device(), memory_format=_torch().channels_last)


def _create_preprocess(model: ConfigDict) -> Callable:
    """As `preprocess.make_preprocess`, of float tensors [b, C, H, W]."""
    torch, normalize = _torch(), _create_normalize(model)

    def preprocess(images):
        height, width, channels = input_shape(
            model, images.permute(0, 2, 3, 1).shape[1:]
        )
        if images.shape[2:] != (height, width):
            images = torch.nn.functional.interpolate(
                images, (height, width), mode="bilinear"
            )
        return normalize(images.expand(-1, channels, -1, -1))

    return preprocess


def _create_normalize(model: ConfigDict) -> Callable:
    torch, device = _torch(), _device()
    if model.normalization == "face":

        def normalize(images):
            variance, mean = torch.var_mean(
                images, (1, 2, 3), correction=0, keepdim=True
            )
            return (images - mean) * torch.rsqrt(variance + 1e-4)

        return normalize
    mean, std = (
        torch.tensor(x, device=device).view(1, -1, 1, 1)
        for x in (model.mean, model.std)
    )
    return lambda images: (images - mean) / std


def _create_forward(net, model: ConfigDict) -> Callable:
    """Returns `forward(uint8 tensor [b, H, W, C]) -> logits float32 [b, classes]`."""
    torch, device = _torch(), _device()
    preprocess = _create_preprocess(model)
    if device == "cuda":
        net = torch.compile(net, dynamic=False)
    low = model.dtype == "bfloat16"

    def forward(images):
        # NHWC seen as NCHW is what PyTorch calls channels_last.
        images = preprocess(images.permute(0, 3, 1, 2).float() / 255.0)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            return net(images).float()

    return forward


def create_predict(
    network: nn.Module,
    variables: Any,
    model: ConfigDict,
    temperature: float,
    image_shape: tuple[int, int, int],
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns `predict(uint8 [N, *image_shape]) -> probabilities float32 [N, classes]`.

    Args:
      network: a module of deepfer_jax.models.
      variables: of it.
      model: `config.model`: its normalisation and dtype.
      temperature: by which logits are divided.
      image_shape: (height, width, channels) of a face.
    """
    torch = _torch()
    net = _create_net(network, variables, model, image_shape).eval()
    forward = _create_forward(net, model)

    @torch.inference_mode()
    def predict(faces):
        logits = forward(torch.from_numpy(faces).to(_device()))
        return (logits / temperature).softmax(-1).cpu().numpy()

    return predict


class Training:
    """Training steps on one batch that stays on the device; a task of `timing`.

    Args:
      recipe: a whole configuration; augmentation, dropout, class weights, moving
        average and schedule are left out.
      network: a module of deepfer_jax.models.
      variables: its first {params, batch_stats}.
      batch: numpy {image uint8 [b, H, W, C], label int32 [b]}.

    Attributes:
      num_steps: of a call.
      net: the twin.
      facts: what a report says of this task.
    """

    def __init__(
        self,
        recipe: ConfigDict,
        network: nn.Module,
        variables: Any,
        batch: dict[str, np.ndarray],
    ):
        torch, model = _torch(), recipe.model
        image_shape = batch["image"].shape[1:]
        self.net = _create_net(network, variables, model, image_shape).train()
        self._forward = _create_forward(self.net, model)
        self._images = torch.from_numpy(batch["image"]).to(_device())
        self._labels = torch.from_numpy(batch["label"]).long().to(_device())
        self._optimizer = _create_optimizer(recipe.optimizer, self.net)
        self._recipe, self.num_steps = recipe, 1
        self.facts = {
            "framework": "torch",
            "model": model.name,
            "pipeline": "fixed",
            "precision": model.dtype,
            "batch_size": len(self._labels),
            "image_size": image_shape[0],
            "augmented": False,
            "steps_per_call": 1,
            "host_input": False,
        }

    def __call__(self) -> int:
        """Returns how many faces it trained on."""
        for _ in range(self.num_steps):
            self._step()
        if _device() == "cuda":
            _torch().cuda.synchronize()
        return self.num_steps * len(self._labels)

    def _step(self) -> None:
        torch, recipe = _torch(), self._recipe
        loss = torch.nn.functional.cross_entropy(
            self._forward(self._images),
            self._labels,
            label_smoothing=recipe.loss.label_smoothing,
        )
        self._optimizer.zero_grad()
        loss.backward()
        if recipe.optimizer.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(
                self.net.parameters(), recipe.optimizer.clip_norm
            )
        self._optimizer.step()

    def warm_up(self) -> None:
        """Compiles on a GPU, and allocates."""
        for _ in range(3):
            self()


def _create_optimizer(config: ConfigDict, net):
    """As `optim.create_optimizer`, at the highest rate of its schedule."""
    torch = _torch()
    kernels = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    groups = [
        {"params": kernels, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, config.learning_rate, config.momentum, nesterov=True, fused=True
        )
    betas = (config.b1, config.b2)
    return torch.optim.AdamW(groups, config.learning_rate, betas, fused=True)
