"""Importing this first makes TensorFlow look as if it were not installed.

sys.modules["tensorflow"] = None would not do: TFDS takes the name for the module. Nor
would a finder that raises: find_spec must return None.
"""

import importlib.machinery
import importlib.util

_find_spec = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = lambda name, *where: (
    None if name.split(".")[0] == "tensorflow" else _find_spec(name, *where)
)
assert importlib.util.find_spec("tensorflow") is None
