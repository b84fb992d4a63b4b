"""Whether it holds up: many clients, attackers, a long video, thousands of bad inputs.

    document = soak(pathlib.Path("scripts"), folder, seconds=600)

Its layout:

    device, threads, load, versions   as of `measuring.speed`
    clients     of many at once on the stream: answers, errors, frames a second, memory
    attacked    clients that send frames_per_second each beside `attacks`, on a server
                of their own: answers, errors, milliseconds until an answer, memory
                (with most_mib), attackers' connections and how many of them were
                cut_off, and stop_seconds, from SIGTERM until it was gone, attackers
                beside it
    bad_inputs  http, websocket, predict: for each how many were refused by an error,
                were read and failed (no answer, or the wrong one), by kind too, and the
                good frames between them that were answered
    video       of a long one through scripts/video.py: frames, faces, memory

memory is that of the server or the script, and of the processes it started: start_mib
after the first tenth of the time (a minute of ten; of a video and beside attackers the
first half, in which the allocator takes its last step and sizes are compiled), end_mib,
and growth, by what part. All traffic stays on 127.0.0.1.
"""

import asyncio
import collections
import contextlib
import http.client
import itertools
import json
import math
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import websockets
from measuring import timing
from measuring.bad_inputs import Tally, encode, make_inputs
from measuring.realtime import make_frame
from measuring.running import running_server, stop_server
from websockets.sync.client import connect

from deepfer_jax.faces.video import import_cv2

_NUM_CLIENTS = 16
_CAMERA_RATE = 5  # frames a second of each that is attacked: what two cores can answer
_MAX_GROWTH = 0.02
# Beside attackers, whose bodies and messages come and go by tens of megabytes.
_MAX_ATTACKED_GROWTH = 0.1
_MAX_P95_MS = 150
_MAX_MIB = 1500
_MAX_STOP_SECONDS = 5
# Of a shorter time neither growth nor milliseconds say anything: what is compiled
# first weighs too much.
_MIN_SECONDS = 20
_GOOD_EVERY = 100


def soak(
    scripts: pathlib.Path,
    folder: pathlib.Path,
    seconds: float = 600,
    num_frames: int = 10_000,
    num_inputs: int = 10_000,
) -> dict[str, Any]:
    """Runs all.

    Args:
      scripts: folder of predict.py and video.py.
      folder: for temporary files.
      seconds: of the clients.
      num_frames: of the video.
      num_inputs: bad ones, each way.
    """
    document = {"command": "soak"} | timing.describe_machine()
    with running_server() as (address, pid):
        document["attacked"] = soak_attacked(address, pid, seconds)
    with running_server() as (address, pid):
        document["clients"] = soak_clients(address, pid, seconds)
        document["bad_inputs"] = {
            "http": soak_http(address, num_inputs),
            "websocket": soak_stream(address, num_inputs),
            "predict": soak_predict(scripts, folder, num_inputs),
        }
    document["video"] = soak_video(scripts, folder, num_frames)
    return document


class Memory:
    """Resident memory of a process and those it started, while it is entered.

    Twice a second; what they share is counted for each.
    """

    def __init__(self, pid: int):
        self._process, self._samples = psutil.Process(pid), []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while True:
                self._samples.append(self._measure())
                if self._end.wait(0.5):
                    return

    def _measure(self) -> float:
        total = self._process.memory_info().rss
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += child.memory_info().rss
        return total / 2**20

    @property
    def most(self) -> float:
        return round(max(self._samples), 1)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        self._thread.join()

    def describe(self, warm_up: float) -> dict[str, float]:
        """{start_mib, end_mib, growth}, after warm_up, a part of the time, and later.

        Both are medians of a tenth of the time. The end leaves out the last tenth: a
        script that is about to end has let go of some.
        """
        tenth = max(1, len(self._samples) // 10)
        first = round(warm_up * len(self._samples))
        start = float(np.median(self._samples[first : first + tenth]))
        end = float(np.median(self._samples[-2 * tenth : -tenth] or self._samples))
        return {
            "start_mib": round(start, 1),
            "end_mib": round(end, 1),
            "growth": round(end / start - 1, 4),
        }


def soak_clients(address: str, pid: int, seconds: float) -> dict[str, Any]:
    """Clients that each send a frame as soon as the last one is answered."""
    frame = make_frame(1)
    frames = [encode(np.roll(frame, 4 * i, axis=1)) for i in range(-5, 6)]
    counts = collections.Counter()

    async def be_client(end: float) -> None:
        url = f"ws://{address}/v1/stream"
        async with websockets.connect(url) as stream:
            for data in itertools.cycle(frames):
                if time.monotonic() > end:
                    return
                await stream.send(data)
                answer = json.loads(await stream.recv())
                good = [face["label"] for face in answer.get("faces", ())]
                counts["answers" if good == ["happy"] else "errors"] += 1

    async def be_all() -> None:
        end = time.monotonic() + seconds
        clients = [be_client(end) for _ in range(_NUM_CLIENTS)]
        for result in await asyncio.gather(*clients, return_exceptions=True):
            if isinstance(result, Exception):
                counts["errors"] += 1

    _ask(http.client.HTTPConnection(address), frames[0])  # what compiles, compiles
    with Memory(pid) as memory:
        asyncio.run(be_all())
    return {
        "clients": _NUM_CLIENTS,
        "seconds": seconds,
        "answers": counts["answers"],
        "errors": counts["errors"],
        "frames_per_second": round(counts["answers"] / seconds, 1),
        "memory": memory.describe(1 / 10),
    }


def soak_attacked(address: str, pid: int, seconds: float) -> dict[str, Any]:
    """Cameras beside attackers; stops the server in the end."""
    frame = make_frame(1)
    frames = [encode(np.roll(frame, 4 * i, axis=1)) for i in range(-5, 6)]
    counts, times = collections.Counter(), []

    async def be_camera(start: float, end: float) -> None:
        async with websockets.connect(f"ws://{address}/v1/stream") as stream:
            for data in itertools.cycle(frames):
                # At its own times, whatever happens: a frame that is late is left out.
                late = max(0.0, time.monotonic() - start)
                due = start + math.ceil(late * _CAMERA_RATE) / _CAMERA_RATE
                if due > end:
                    return
                await asyncio.sleep(due - time.monotonic())
                sent = time.monotonic()
                await stream.send(data)
                answer = json.loads(await asyncio.wait_for(stream.recv(), 60))
                times.append(1e3 * (time.monotonic() - sent))
                good = [face["label"] for face in answer.get("faces", ())]
                counts["answers" if good == ["happy"] else "errors"] += 1

    async def be_all() -> None:
        now, gap = time.monotonic(), 1 / _NUM_CLIENTS / _CAMERA_RATE
        starts = [now + i * gap for i in range(_NUM_CLIENTS)]
        cameras = [be_camera(start, now + seconds) for start in starts]
        for result in await asyncio.gather(*cameras, return_exceptions=True):
            if isinstance(result, Exception):
                print(f"a camera failed: {result!r}", file=sys.stderr)
                counts["errors"] += 1

    command = [sys.executable, "-m", "measuring.attacks", address]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    folder = pathlib.Path(__file__).parents[1]
    attackers = subprocess.Popen([*command, str(seconds)], cwd=folder, **pipes)
    try:
        attackers.stdout.readline()  # they are ready
        with Memory(pid) as memory:
            asyncio.run(be_all())
        stop_seconds = stop_server(pid)
        attacks = json.loads(attackers.stdout.readline())
    finally:
        attackers.kill()
        attackers.wait()
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).round(1).tolist()
    return {
        "clients": _NUM_CLIENTS,
        "frames_per_second": _CAMERA_RATE,
        "seconds": seconds,
        "answers": counts["answers"],
        "errors": counts["errors"],
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "most_ms": round(max(times), 1),
        "memory": memory.describe(1 / 2) | {"most_mib": memory.most},
        "stop_seconds": round(stop_seconds, 2),
        "attacks": attacks,
    }


def soak_video(
    scripts: pathlib.Path, folder: pathlib.Path, num_frames: int
) -> dict[str, Any]:
    """A face that moves to and fro, through scripts/video.py."""
    cv2 = import_cv2()
    path, table = folder / "long.mp4", folder / "faces.csv"
    frame = make_frame(1)
    height, width, _ = frame.shape
    code = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), code, 25, (width, height))
    for i in range(num_frames):
        shift = round(60 * np.sin(i / 20))
        writer.write(np.ascontiguousarray(np.roll(frame, shift, axis=1)[..., ::-1]))
    writer.release()
    start = time.perf_counter()
    command = [sys.executable, scripts / "video.py", path, "--csv", table]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with Memory(process.pid) as memory:
        process.wait()
    seconds = time.perf_counter() - start
    return {
        "frames": num_frames,
        "faces": len(table.read_text().splitlines()) - 1,
        "failed": int(process.returncode != 0),
        "seconds": round(seconds, 1),
        "frames_per_second": round(num_frames / seconds, 1),
        "memory": memory.describe(1 / 2),
    }


def _ask(connection: http.client.HTTPConnection, data: bytes) -> dict[str, Any] | None:
    """The answer of /v1/analyze, or None if there is none that is in order."""
    try:
        connection.request("POST", "/v1/analyze", data)
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return None
    return json.loads(text) if response.status in (200, 400, 413) else None


def soak_http(address: str, num: int) -> dict[str, Any]:
    """Inputs to POST /v1/analyze, and now and then a good frame."""
    tally, good = Tally(), encode(make_frame(1))
    connection = http.client.HTTPConnection(address, timeout=60)
    for i, item in enumerate(make_inputs(num), start=1):
        tally.add(item, _ask(connection, item.data))
        if i % _GOOD_EVERY == 0:
            tally.add_good(_ask(connection, good))
    connection.close()
    return tally.describe()


def soak_stream(address: str, num: int) -> dict[str, Any]:
    """The same to the stream; texts as text, where they are some."""
    tally, good = Tally(), encode(make_frame(1))
    with connect(f"ws://{address}/v1/stream", max_size=None) as stream:
        for i, item in enumerate(make_inputs(num), start=1):
            is_text = item.kind == "text" and item.data.isascii()
            stream.send(item.data.decode() if is_text else item.data)
            tally.add(item, json.loads(stream.recv(timeout=60)))
            if i % _GOOD_EVERY == 0:
                stream.send(good)
                tally.add_good(json.loads(stream.recv(timeout=60)))
    return tally.describe()


def soak_predict(
    scripts: pathlib.Path, folder: pathlib.Path, num: int
) -> dict[str, Any]:
    """The same as files of one folder, through scripts/predict.py."""
    files, tally = folder / "files", Tally()
    files.mkdir()
    inputs = {}
    for i, item in enumerate(make_inputs(num), start=1):
        inputs[f"{i:06}.png"] = item
        if i % _GOOD_EVERY == 0:
            inputs[f"{i:06}_good.png"] = None
    good = encode(make_frame(1))
    for name, item in inputs.items():
        (files / name).write_bytes(item.data if item else good)
    command = [sys.executable, scripts / "predict.py", files]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = map(json.loads, result.stdout.splitlines())
    answers = {pathlib.Path(line["file"]).name: line for line in lines}
    for name, item in inputs.items():
        answer = answers.get(name)
        tally.add(item, answer) if item else tally.add_good(answer)
    return tally.describe()


def find_failures(document: dict[str, Any]) -> Iterator[str]:
    """What does not hold, in words."""
    for name in ("clients", "attacked", "video"):
        part = document.get(name)
        if part is None:  # a document of before there were attackers
            yield f"{name}: not measured"
            continue
        most = _MAX_ATTACKED_GROWTH if name == "attacked" else _MAX_GROWTH
        is_long = part["seconds"] >= _MIN_SECONDS
        if is_long and part["memory"]["growth"] >= most:
            yield f"{name}: memory grew by {part['memory']['growth']:.1%}"
        if part.get("errors") or part.get("failed"):
            yield f"{name}: errors"
    if attacked := document.get("attacked"):
        is_long = attacked["seconds"] >= _MIN_SECONDS
        if is_long and attacked["p95_ms"] >= _MAX_P95_MS:
            yield f"attacked: 5 % of the answers take more than {attacked['p95_ms']} ms"
        if attacked["memory"]["most_mib"] >= _MAX_MIB:
            yield f"attacked: {attacked['memory']['most_mib']} MiB of memory"
        if attacked["stop_seconds"] >= _MAX_STOP_SECONDS:
            yield f"attacked: stopped after {attacked['stop_seconds']} s"
    if document["video"]["faces"] != document["video"]["frames"]:
        yield "video: not one face in every frame"
    for name, part in document["bad_inputs"].items():
        if part["failed"] or part["good_frames"]["failed"]:
            yield f"bad inputs, {name}: some were not answered as they should be"
