"""Measures the page in the browser alone and its ONNX files; prints JSON.

python scripts/measure_web.py --photos FOLDER --peers downloads/peers

FOLDER holds photographs (.jpg). build/web is what `make web` made; the extra onnx is
installed; downloads/peers has the other libraries:

    npm install --prefix downloads/peers --ignore-scripts --legacy-peer-deps
        @vladmandic/human@3.3.6 @vladmandic/face-api@1.7.15
        @tensorflow/tfjs-backend-wasm@4.22.0
"""

import argparse
import asyncio
import json
import pathlib
import sys
import tempfile

import numpy as np

from deepfer_jax import errors

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT))

with errors.imports("train"):
    from measuring import onnx_files, recall, web, web_speed

    from deepfer_jax.faces.analyzer import Analyzer
    from tests import chromium


async def measure(args: argparse.Namespace, scratch: pathlib.Path) -> dict:
    photos, frames = scratch / "photos", scratch / "frames"
    for folder in (photos, frames):
        folder.mkdir()
    (scratch / "speed.html").write_text(web_speed.PAGE)
    astronaut = np.asarray(recall.load_photos()["astronaut"])
    names = web_speed.write_frames(astronaut, frames)
    folders = {"": args.web, "photos": photos, "frames": frames, "bare": scratch}
    folders["peers"] = args.peers / "node_modules"
    with web.serve(folders) as (url, _):
        profile = scratch / "profile"
        document = {}
        async with chromium.open_page(f"{url}bare/speed.html", profile) as page:
            await page.until("document.title === 'speed'")
            document["browser"] = await page.evaluate("navigator.userAgent")
            speed = await web_speed.measure_speed(page, names, args.rounds)
            document["speed"] = speed
        for detector in ("auto", "short"):
            address = f"{url}?detector={detector}"
            async with chromium.open_page(address, scratch / detector) as page:
                await page.until("window.deepfer")
                document[f"photographs_{detector}"] = await web.measure_agreement(
                    page, Analyzer("tiny", detector), args.photos, photos
                )
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--photos", type=pathlib.Path, required=True, help="folder of photographs")
    add("--peers", type=pathlib.Path, required=True, help="of npm, with the others")
    add("--web", type=pathlib.Path, default=ROOT / "build" / "web", help="of make web")
    add("--rounds", type=int, default=40, help="frames that each program reads")
    args = parser.parse_args()
    if not (args.web / "sw.js").exists():
        raise errors.UserError(f"{args.web} is missing: run make web")
    if chromium.find() is None:
        raise errors.UserError("Chromium is missing: install it")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        document = asyncio.run(measure(args, pathlib.Path(scratch)))
    document["onnxruntime"] = onnx_files.measure_onnx(args.web / "models")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    with errors.reported():
        main()
