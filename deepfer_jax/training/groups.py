"""Parameter groups by path: which are trained, how fast, and from which epoch on.

    groups = parse_groups(config.optimizer.groups)
    plan = Groups(groups, params)
    phase = plan.phase(epoch)                   # which groups are awake
    trainable, frozen = phase.split(params)
    params = phase.merge(trainable, frozen)

The first group whose pattern matches the whole path of a parameter, such as
"stage1/block1/conv1/kernel", has it. A frozen one has no optimiser slots and no
gradient, and its batch normalisation stays as in inference.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax

from deepfer_jax.errors import UserError


class Group(NamedTuple):
    """pattern of paths; multiplier of the rate (0 freezes); epoch in which it wakes."""

    pattern: str
    multiplier: float = 1.0
    epoch: int = 0


# The only group where the configuration names none.
EVERYTHING = Group(".*")


class Phase(NamedTuple):
    """The groups that are awake in an epoch.

    labels are the group's number of every parameter, by path; awake are numbers of
    groups.
    """

    groups: tuple[Group, ...]
    labels: dict[str, int]
    awake: tuple[int, ...]

    def is_trainable(self, path: str) -> bool:
        """Whether the parameter of that path is trained."""
        return self.labels[path] in self.awake

    def is_frozen_layer(self, path: str) -> bool:
        """Whether a layer, such as "stem/norm", has no parameter that is trained."""
        inside = [p for p in self.labels if p.startswith(path + "/")]
        return bool(inside) and not any(map(self.is_trainable, inside))

    def split(self, params: Any) -> tuple[Any, Any]:
        """Returns the trainable and the frozen part of a tree, as nested dicts."""
        flat = flax.traverse_util.flatten_dict(params, sep="/")
        parts = ({}, {})
        for path, x in flat.items():
            parts[0 if self.is_trainable(path) else 1][path] = x
        return tuple(flax.traverse_util.unflatten_dict(p, sep="/") for p in parts)

    def merge(self, trainable: Any, frozen: Any) -> Any:
        """The inverse of `split`."""
        flat = flax.traverse_util.flatten_dict(trainable, sep="/")
        flat |= flax.traverse_util.flatten_dict(frozen, sep="/")
        return flax.traverse_util.unflatten_dict(flat, sep="/")

    def label_tree(self, trainable: Any) -> Any:
        """The group's number of every leaf of a trainable part, as text."""
        flat = flax.traverse_util.flatten_dict(trainable, sep="/")
        labels = {path: str(self.labels[path]) for path in flat}
        return flax.traverse_util.unflatten_dict(labels, sep="/")


class Groups:
    """All groups of a run.

    Args:
      groups: in their order; () trains everything at one rate.
      params: the network's.

    Raises:
      UserError: a pattern that matches nothing, a parameter that none matches, or
        nothing to train in the first epoch.
    """

    def __init__(self, groups: Sequence[Group], params: Any):
        self.groups = tuple(groups) or (EVERYTHING,)
        paths = list(flax.traverse_util.flatten_dict(params, sep="/"))
        self.labels = {path: self._label(path) for path in paths}
        for i, group in enumerate(self.groups):
            if i not in self.labels.values():
                raise UserError(
                    f"config.optimizer.groups: {group.pattern!r} matches no parameter "
                    "that an earlier pattern has left: the paths are such as "
                    f"{', '.join(paths[:3])}"
                )
        if not self.phase(0).awake:
            raise UserError(
                "config.optimizer.groups: nothing is trained in the first epoch"
            )

    def _label(self, path: str) -> int:
        for i, group in enumerate(self.groups):
            if re.fullmatch(group.pattern, path):
                return i
        raise UserError(
            f"config.optimizer.groups: no pattern matches {path!r}: end with "
            '(".*", 1.0), or (".*", 0.0) to freeze the rest'
        )

    def phase(self, epoch: int) -> Phase:
        """What is trained in an epoch, counted from 0."""
        awake = tuple(
            i
            for i, group in enumerate(self.groups)
            if group.multiplier > 0 and group.epoch <= epoch
        )
        return Phase(self.groups, self.labels, awake)

    def describe(self, params: Any) -> str:
        """A table: pattern, parameters, multiplier, when it trains."""
        flat = flax.traverse_util.flatten_dict(params, sep="/")
        lines = [f"{'group':<28}{'parameters':>12}{'multiplier':>12}  trained"]
        for i, group in enumerate(self.groups):
            size = sum(x.size for path, x in flat.items() if self.labels[path] == i)
            when = (
                "from the start"
                if group.epoch == 0
                else f"from epoch {group.epoch + 1}"
            )
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
      epochs_apart: between the waking of two layers; 0 wakes all at once.

    >>> layerwise(("head", "stage4", "stem"), 0.5, epochs_apart=1)
    (('head/.*', 1.0, 0), ('stage4/.*', 0.5, 1), ('stem/.*', 0.25, 2))
    """
    return tuple(
        (f"{layer}/.*", decay**i, i * epochs_apart) for i, layer in enumerate(layers)
    )


def parse_groups(groups: Sequence[Sequence[Any]]) -> tuple[Group, ...]:
    """Reads `config.optimizer.groups`: (pattern, multiplier) or (..., epoch) each.

    Raises:
      UserError: another form.
    """
    parsed = []
    for item in groups:
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
        parsed.append(group)
    return tuple(parsed)
