"""Which module may import what, by their syntax trees (the layout's law)."""

import ast
import pathlib
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "deepfer_jax"
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def imports(path, top_level_only=False):
    """Full names that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(name):
    return name.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_law(path):
    name = module_name(path)
    names = list(imports(path))
    ours = [x for x in names if top(x) == "deepfer_jax"]
    if name.startswith("deepfer_jax.models"):
        assert all(x.startswith("deepfer_jax.models") for x in ours)
    if path.stem in ("losses", "augment", "parallel", "metrics"):
        assert not ours
    if path.stem == "inference":
        assert all("executables" in x or "exported" in x for x in ours)
    if path.stem == "executables":
        assert all("parallel" in x for x in ours)
    if path.stem != "checkpoint":
        assert "orbax" not in map(top, names)
    if path.stem == "exported":  # what builds a program again, in a function
        assert sorted(ours) == ["deepfer_jax.errors.UserError", "deepfer_jax.export"]
        assert "deepfer_jax.export" not in imports(path, True)
    if path.stem in ("inference", "executables", "exported", "parallel"):
        allowed = {"jax", "jaxlib", "numpy", "deepfer_jax"} | sys.stdlib_module_names
        assert set(map(top, names)) <= allowed
    if path.parent.name == "faces" and path.stem in ("analyzer", "face", "tracking"):
        allowed = {"jax", "numpy", "deepfer_jax"} | sys.stdlib_module_names
        assert set(map(top, names)) <= allowed
        below = ("inference", "executables", "exported", "faces.face")
        assert all(any(name in x for name in below) for x in ours)
    assert not {"scripts", "configs", "tests"} & set(map(top, names))
    assert not any(top(x) == "tensorflow" for x in imports(path, top_level_only=True))
    if "tensorflow" in map(top, names):
        assert name == "deepfer_jax.data.datasets"  # import_tensorflow


def test_every_rule_has_files_to_judge():
    stems = {path.stem for path in FILES}
    assert stems >= {"checkpoint", "inference", "losses", "augment", "parallel"}
    assert "executables" in stems


def test_importing_everything_needs_no_tensorflow(run_python):
    names = [
        module_name(path).removesuffix(".__init__")
        for path in FILES
        if path.stem != "__main__"
    ]
    run_python(
        "-c",
        "import tests.no_tensorflow\n"
        f"import importlib\nfor name in {names!r}: importlib.import_module(name)",
    )
