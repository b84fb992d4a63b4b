"""A headless Chromium with a made camera, driven over its debugging protocol."""

import asyncio
import base64
import contextlib
import itertools
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import websockets

# WebGPU without a graphics card: slow, and only where the browser brings SwiftShader.
WEBGPU = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
)
# What finds mistakes of accessibility; `make web` installs it.
AXE = pathlib.Path(__file__).parents[1] / "web/node_modules/axe-core/axe.min.js"
_VIOLATIONS = """
axe.run({ resultTypes: ["violations"] }).then(({ violations }) => violations.map(
  ({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`
), (error) => [String(error)])
"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """The path of a browser, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def write_y4m(path: pathlib.Path, frames: np.ndarray, rate: int = 15) -> None:
    """A video for the made camera; frames uint8 [N, H, W, 3], RGB, even sides."""
    _, height, width, _ = frames.shape
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W%d H%d F%d:1 Ip A1:1 C420\n" % (width, height, rate))
        for frame in frames.astype(np.float32):
            red, green, blue = np.moveaxis(frame, -1, 0)
            luma = 16 + (65.738 * red + 129.057 * green + 25.064 * blue) / 256
            u = 128 + (-37.945 * red - 74.494 * green + 112.439 * blue) / 256
            v = 128 + (112.439 * red - 94.154 * green - 18.285 * blue) / 256
            quarters = [
                x.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for x in (u, v)
            ]
            file.write(b"FRAME\n")
            for plane in (luma, *quarters):
                file.write(np.rint(plane).clip(0, 255).astype(np.uint8).tobytes())


class Page:
    """An open page: `evaluate` JavaScript, `send` a command of the protocol."""

    def __init__(self, connection):
        self._connection, self._numbers = connection, itertools.count(1)

    async def send(self, method: str, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        await self._connection.send(json.dumps(message))
        while True:
            answer = json.loads(await self._connection.recv())
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer["result"]

    async def evaluate(self, code: str):
        arguments = {"expression": code, "returnByValue": True, "awaitPromise": True}
        answer = await self.send("Runtime.evaluate", **arguments)
        return answer["result"].get("value")

    async def until(self, code: str, seconds: float = 30) -> None:
        """Waits until the JavaScript is true."""
        async with asyncio.timeout(seconds):
            while not await self.evaluate(code):
                await asyncio.sleep(0.1)

    async def screenshot(self, path: pathlib.Path) -> None:
        picture = await self.send("Page.captureScreenshot")
        path.write_bytes(base64.b64decode(picture["data"]))

    async def resize(self, width: int, height: int, scheme: str = "light") -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.send("Emulation.setEmulatedMedia", features=features)


@contextlib.asynccontextmanager
async def open_page(
    url: str,
    folder: pathlib.Path,
    camera: pathlib.Path | None = None,
    webgpu: bool = False,
):
    """A `Page` of the address; the camera plays a .y4m file."""
    arguments = ["--headless", "--no-sandbox", "--hide-scrollbars"]
    arguments += WEBGPU if webgpu else ["--disable-gpu"]
    arguments += ["--remote-debugging-port=0", f"--user-data-dir={folder}"]
    if camera:
        arguments += ["--use-fake-ui-for-media-stream"]
        arguments += ["--use-fake-device-for-media-stream"]
        arguments += [f"--use-file-for-fake-video-capture={camera}"]
    process = subprocess.Popen(
        [find(), *arguments, "about:blank"], stderr=subprocess.PIPE, text=True
    )
    try:
        for line in process.stderr:
            if found := re.search(r"ws://(\S+?)/devtools", line):
                break
        targets = await asyncio.to_thread(
            subprocess.check_output, ["curl", "-s", f"http://{found[1]}/json/list"]
        )
        (target,) = (t for t in json.loads(targets) if t["type"] == "page")
        address = target["webSocketDebuggerUrl"]
        async with websockets.connect(address, max_size=None) as connection:
            page = Page(connection)
            await page.send("Page.enable")
            await page.resize(1000, 1000)
            await page.send("Page.navigate", url=url)
            yield page
    finally:
        process.terminate()
        process.wait()


async def find_violations(page: Page) -> list[str]:
    """What axe-core finds in the page as it is shown."""
    await page.evaluate(AXE.read_text())
    return await page.evaluate(_VIOLATIONS)
