"""Takes weights from one tree of variables into another, and leaves nothing to chance.

    variables = merge_variables(fresh, trained, new=("params/head",))

Every leaf must be placed: what is missing, too much or of another shape is an error.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax.numpy as jnp


def merge_variables(
    variables: Mapping[str, Any], source: Mapping[str, Any], new: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns `variables` with the values of `source`.

    Args:
      variables: a tree of arrays, of nested dicts.
      source: a tree of the same paths and shapes, but for those in `new`.
      new: prefixes of paths, such as "params/head", that keep the values of `variables`
        whatever the source has there.

    Returns:
      A tree like `variables`, with its dtypes.

    Raises:
      ValueError: names up to five paths that are missing, too much, or of another
        shape.
    """
    ours = flax.traverse_util.flatten_dict(variables, sep="/")
    theirs = flax.traverse_util.flatten_dict(source, sep="/")

    def is_new(path: str) -> bool:
        return any(path == p or path.startswith(p + "/") for p in new)

    problems = [
        f"{path} is missing" for path in ours if path not in theirs and not is_new(path)
    ]
    problems += [
        f"{path} is not one of its parameters"
        for path in theirs
        if path not in ours and not is_new(path)
    ]
    problems += [
        f"{path}: expected shape {x.shape}, found {theirs[path].shape}"
        for path, x in ours.items()
        if path in theirs and theirs[path].shape != x.shape and not is_new(path)
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError("; ".join(problems[:5]) + more)
    merged = {
        path: x if is_new(path) else jnp.asarray(theirs[path], x.dtype)
        for path, x in ours.items()
    }
    return flax.traverse_util.unflatten_dict(merged, sep="/")
