"""What bounds training on many GPUs, by arithmetic alone: nothing here was measured.

    step = estimate(gpus=64, network=400e9, num_bytes=94e6)
    step.efficiency                                       # against one GPU

ResNet-50 at 112 pixels, on hosts of eight GPUs. What is assumed stands below by name.
"""

from typing import NamedTuple

_GPUS_A_HOST = 8
_FACES = 64  # a GPU and step
_FLOPS = 3 * 2_007e6  # a face, forward and gradients
_SUSTAINED = 75e12  # FLOP/s of a GPU
_LINK = 300e9  # bytes a second between GPUs of a host, each way
_NORMALISATIONS = 53  # layers that reduce once forward and once backward
_LATENCY = {"host": 20e-6, "network": 50e-6}  # seconds of a small reduction


class Step(NamedTuple):
    """Seconds of a step, none hidden behind another, and what comes of them."""

    compute: float
    gradients: float
    statistics: float

    @property
    def efficiency(self) -> float:
        return self.compute / sum(self)

    @property
    def faces_per_second(self) -> float:
        """Of one GPU."""
        return _FACES / sum(self)


def estimate(gpus: int, network: float, num_bytes: float) -> Step:
    """Reduces gradients by rings, first within hosts, then between them.

    Args:
      gpus: 8 or a multiple.
      network: bytes a second of a host, each way.
      num_bytes: of the gradients.
    """
    hosts = gpus // _GPUS_A_HOST
    within = 2 * (_GPUS_A_HOST - 1) / _GPUS_A_HOST * num_bytes / _LINK
    between = 2 * (hosts - 1) / hosts * num_bytes / network
    latency = _LATENCY["network" if hosts > 1 else "host"]
    return Step(
        compute=_FACES * _FLOPS / _SUSTAINED,
        gradients=within + between,
        statistics=2 * _NORMALISATIONS * latency,
    )
