"""Builds the page that reads faces in the browser alone: static files for any host.

python scripts/build_web.py --model tiny --out build/web

Needs web/node_modules (npm ci --prefix web) and the extra onnx: `make web` has both.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import tempfile

from deepfer_jax import errors

with errors.imports("train"):
    from deepfer_jax import onnx_export

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "deepfer_jax" / "demo" / "page"
WEB = ROOT / "web"
ASSETS = ROOT / "deepfer_jax" / "assets"
RUNTIME = WEB / "node_modules" / "onnxruntime-web" / "dist"
# What runs the networks: in WebAssembly, and where there is WebGPU.
WASM = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU = ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' data: blob:; media-src blob:; connect-src 'self'; "
    "worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'"
)


def build(model: str, out: pathlib.Path) -> None:
    """Writes the folder anew, with ONNX files of a model.

    Raises:
      UserError: as `lay_out`, or there is no such model.
    """
    with tempfile.TemporaryDirectory() as folder:
        onnx_export.export_onnx(model, folder)
        lay_out(pathlib.Path(folder), out)


def lay_out(models: pathlib.Path, out: pathlib.Path) -> None:
    """Writes the folder anew.

    Args:
      models: what `onnx_export.export_onnx` wrote.
      out: folder to write.

    Raises:
      UserError: npm's packages are missing, or the folder holds something else.
    """
    if not RUNTIME.exists():
        raise errors.UserError(f"{RUNTIME} is missing: run npm ci --prefix web")
    if out.exists():
        if not (out / "sw.js").exists() and any(out.iterdir()):
            raise errors.UserError(f"{out} holds something else: name another folder")
        shutil.rmtree(out)
    ignore = shutil.ignore_patterns("openapi.json")
    shutil.copytree(PAGE, out, ignore=ignore)
    shutil.copytree(WEB / "src", out, dirs_exist_ok=True)  # its engine for the server's
    (out / "ort").mkdir()
    for name in (*WASM, *WEBGPU):
        shutil.copy(RUNTIME / name, out / "ort" / name)
    shutil.copytree(models, out / "models")
    shutil.copy(ASSETS / "blazeface_short" / "NOTICE", out / "models" / "NOTICE")
    _edit_index(out / "index.html")
    _edit_service_worker(out)


def _edit_index(path: pathlib.Path) -> None:
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<link rel="manifest" href="manifest.webmanifest">\n'
        '<link rel="icon" href="icon.svg">'
    )
    path.write_text(_replace(path.read_text(), '<link rel="icon" href="data:,">', head))


def _edit_service_worker(out: pathlib.Path) -> None:
    paths = sorted(path for path in out.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    names = [path.relative_to(out).as_posix() for path in paths]
    left_out = {"sw.js", *(f"ort/{name}" for name in WEBGPU)}
    files = ["./", *(name for name in names if name not in left_out)]
    path = out / "sw.js"
    text = _replace(
        path.read_text(),
        'const VERSION = "";\nconst FILES = [];',
        f'const VERSION = "{digest.hexdigest()[:16]}";\n'
        f"const FILES = {json.dumps(files, indent=1)};",
    )
    path.write_text(text)


def _replace(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise AssertionError(f"expected once: {old}")
    return text.replace(old, new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="tiny", help="a model that ships, or exported"
    )
    parser.add_argument("--out", default="build/web", help="folder to write")
    args = parser.parse_args()
    build(args.model, pathlib.Path(args.out))
    print(f"{args.out}: put it on any web host, or try it:")
    print(f"  python -m http.server --directory {args.out}")


if __name__ == "__main__":
    with errors.reported():
        main()
