"""Which folder may import which, by their syntax trees (see docs/architecture.md)."""

import ast
import pathlib
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "deepfer_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# Who may import whom: each folder, or module beside them, and what it may use of ours.
# Nothing stands above itself, so that there is no circle.
LAW = {
    "errors": "",
    "keys": "",
    "parallel": "",
    "lost": "",
    "hosts": "errors lost parallel",
    "models": "",
    "outputs": "errors",
    "occlusion": "",
    "executables": "parallel",
    "exported": "errors",
    "inference": "executables exported",
    "pretrained": "errors outputs models",
    "data": "errors keys parallel inference",
    "runs": "errors hosts models data pretrained exported",
    "evaluation": "errors outputs parallel models data exported occlusion runs",
    "training": "errors hosts keys parallel models data pretrained runs evaluation",
    "faces": "errors outputs models pretrained data executables exported inference "
    "occlusion",
    "export": "errors outputs parallel models pretrained data exported inference runs "
    "evaluation faces",
    "portable": "errors outputs models exported inference runs faces export",
    "onnx_export": "errors portable",
    "tflite_export": "errors data portable",
    "bulk": "errors outputs data exported faces",
    "demo": "data faces exported inference",
    "main": "errors hosts parallel training",
    "commands": "errors outputs data exported inference faces bulk export onnx_export "
    "tflite_export main",
    "cli": "errors",  # and its commands, by name
    "__main__": "cli",
}
# Programs that were exported are run where there is neither Flax nor Pillow.
BARE = ("parallel", "executables", "exported", "inference", "errors", "outputs")
BARE += ("occlusion",)
BARE_FACES = ("analyzer", "boxes", "face", "tracking")
# What exports a model is also what builds its programs again, in a function.
LATE = {("exported", "export")}


def module_name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def room(name):
    """Of deepfer_jax.models.cnn: models."""
    return ([*name.split("."), ""])[1]


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


def test_the_law_has_no_circle():
    above = {}
    for name, below in LAW.items():  # each is written after all that it uses
        assert set(below.split()) <= above.keys(), name
        above[name] = below


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_folders_import_only_what_the_law_allows(path):
    here = room(module_name(path))
    if here == "__init__":
        return
    names = {room(x) for x in imports(path) if top(x) == "deepfer_jax"}
    names -= {"", "__version__"}  # the package's own
    late = {there for module, there in LATE if module == here}
    assert names - {here} - late <= set(LAW[here].split())
    at_once = {room(x) for x in imports(path, True) if top(x) == "deepfer_jax"}
    assert not late & at_once


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_libraries_stand_where_they_belong(path):
    names = set(map(top, imports(path)))
    assert not {"scripts", "measuring", "configs", "tests"} & names
    if path.stem != "checkpoint":
        assert "orbax" not in names
    if "tensorflow" in names:
        assert module_name(path) == "deepfer_jax.data.datasets"  # import_tensorflow
        assert "tensorflow" not in map(top, imports(path, top_level_only=True))
    is_bare = path.parent == PACKAGE and path.stem in BARE
    if is_bare or (path.parent.name == "faces" and path.stem in BARE_FACES):
        allowed = {"jax", "jaxlib", "numpy", "deepfer_jax"} | sys.stdlib_module_names
        assert names <= allowed


def test_bare_faces_need_bare_modules_alone():
    for name in BARE_FACES:
        ours = list(imports(PACKAGE / "faces" / f"{name}.py"))
        ours = [x for x in ours if top(x) == "deepfer_jax"]
        below = (*BARE, "faces.boxes", "faces.face")
        assert all(x.removeprefix("deepfer_jax.").startswith(below) for x in ours)


def test_every_module_is_judged():
    rooms = {room(module_name(path)) for path in FILES} - {"__init__"}
    assert rooms == LAW.keys()
    assert {"checkpoint", "analyzer"} <= {path.stem for path in FILES}


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
