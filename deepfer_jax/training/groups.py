"""Parameter groups by path: which are trained, how fast, and from which epoch on.

    groups = Groups(config.optimizer.groups)
    groups.check(params)
    phase = groups.phase(epoch)                 # which groups are active
    trainable, frozen = phase.split(params)
    params = phase.merge(trainable, frozen)

The first group whose pattern matches the whole path of a parameter, such as
"stage1/block1/conv1/kernel", has it. A frozen one has no optimiser slots and no
gradient, and its batch normalisation stays as in inference.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict, unflatten_dict

from deepfer_jax.errors import UserError

# What a layer that can be frozen holds: batch normalisation's parameters.
_LAYER_PARAMETERS = ("scale", "bias")


class Group(NamedTuple):
    """pattern of paths; multiplier of the rate (0 freezes); epoch of unfreezing."""

    pattern: str
    multiplier: float = 1.0
    epoch: int = 0


# The only group where the configuration names none.
EVERYTHING = Group(".*")


class Phase(NamedTuple):
    """The groups that are active in an epoch; active are their numbers."""

    groups: tuple[Group, ...]
    active: tuple[int, ...]

    def number(self, path: str) -> int:
        """The number of the group that has the parameter of that path.

        Raises:
          UserError: no pattern matches.
        """
        for i, group in enumerate(self.groups):
            if re.fullmatch(group.pattern, path):
                return i
        raise UserError(
            f"config.optimizer.groups: no pattern matches {path!r}: end with "
            '(".*", 1.0), or (".*", 0.0) to freeze the rest'
        )

    def is_trainable(self, path: str) -> bool:
        """Whether the parameter of that path is trained."""
        return self.number(path) in self.active

    def is_frozen_layer(self, path: str) -> bool:
        """Whether batch normalisation of a path, such as "stem/norm", is frozen."""
        return not any(self.is_trainable(f"{path}/{x}") for x in _LAYER_PARAMETERS)

    def split(self, params: Any) -> tuple[Any, Any]:
        """Returns the trainable and the frozen part of a tree, as nested dicts."""
        parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for path, x in flatten_dict(params, sep="/").items():
            parts[0 if self.is_trainable(path) else 1][path] = x
        trainable, frozen = parts
        return unflatten_dict(trainable, sep="/"), unflatten_dict(frozen, sep="/")

    def merge(self, trainable: Any, frozen: Any) -> Any:
        """The inverse of `split`."""
        flat = flatten_dict(trainable, sep="/") | flatten_dict(frozen, sep="/")
        return unflatten_dict(flat, sep="/")

    def label_tree(self, trainable: Any) -> Any:
        """The group's number of every leaf of a trainable part, as text."""
        flat = flatten_dict(trainable, sep="/")
        return unflatten_dict({path: str(self.number(path)) for path in flat}, sep="/")


class Groups:
    """All groups of a run.

    Args:
      groups: `config.optimizer.groups`, (pattern, multiplier) or (..., epoch) each, in
        their order; () trains everything at one rate.

    Raises:
      UserError: another form, or nothing to train in the first epoch.
    """

    def __init__(self, groups: Sequence[Sequence[Any]] = ()):
        self.groups = tuple(map(_parse, groups)) or (EVERYTHING,)
        if not self.phase(0).active:
            raise UserError(
                "config.optimizer.groups: nothing is trained in the first epoch"
            )

    def phase(self, epoch: int) -> Phase:
        """What is trained in an epoch, counted from 0."""
        active = tuple(
            i
            for i, group in enumerate(self.groups)
            if group.multiplier > 0 and group.epoch <= epoch
        )
        return Phase(self.groups, active)

    def check(self, params: Any) -> None:
        """Compares the patterns with a network's parameters.

        Raises:
          UserError: a pattern that matches nothing, or a parameter that none matches.
        """
        paths = list(flatten_dict(params, sep="/"))
        used = {self.phase(0).number(path) for path in paths}
        for i, group in enumerate(self.groups):
            if i not in used:
                raise UserError(
                    f"config.optimizer.groups: {group.pattern!r} matches no parameter "
                    "that an earlier pattern has left: the paths are such as "
                    f"{', '.join(paths[:3])}"
                )

    def describe(self, params: Any) -> str:
        """A table: pattern, parameters, multiplier, when it trains."""
        sizes = dict.fromkeys(range(len(self.groups)), 0)
        for path, x in flatten_dict(params, sep="/").items():
            sizes[self.phase(0).number(path)] += x.size
        lines = [f"{'group':<28}{'parameters':>12}{'multiplier':>12}  trained"]
        for group, size in zip(self.groups, sizes.values(), strict=True):
            when = f"from epoch {group.epoch + 1}" if group.epoch else "from the start"
            when = "frozen" if group.multiplier == 0 else when
            lines.append(
                f"{group.pattern:<28}{size:>12,}{group.multiplier:>12g}  {when}"
            )
        return "\n".join(lines)


def layerwise(
    layers: Sequence[str], decay: float, epochs_apart: int = 0
) -> tuple[tuple[str, float, int], ...]:
    """Groups whose rates fall from layer to layer, for `config.optimizer.groups`.

    Howard & Ruder 2018 (arXiv:1801.06146): discriminative rates and, with epochs
    between them, gradual unfreezing.

    Args:
      layers: from the head down, such as ("head", "stage4", "stage3"); what is not
        among them must be named by a group after these.
      decay: of one layer's rate to that of the next below.
      epochs_apart: between the unfreezing of two layers; 0 unfreezes all at once.

    >>> layerwise(("head", "stage4", "stem"), 0.5, epochs_apart=1)
    (('head/.*', 1.0, 0), ('stage4/.*', 0.5, 1), ('stem/.*', 0.25, 2))
    """
    return tuple(
        (f"{layer}/.*", decay**i, i * epochs_apart) for i, layer in enumerate(layers)
    )


def _parse(item: Any) -> Group:
    try:
        group = Group(*item)
        re.compile(group.pattern)
        valid = group.multiplier >= 0 and group.epoch >= 0
    except (TypeError, re.error):
        valid = False
    if not valid:
        raise UserError(
            "config.optimizer.groups: expected (regular expression, multiplier of "
            f"0 or more[, epoch]), found {tuple(item) if item else item!r}"
        )
    return group
