"""Whether pictures in bulk hold: every row once, whatever is killed; speed; memory.

    for name, measured in measure(folder, PARTS, num=20_000, ...):

Its layout:

    device, threads, load, versions   as of `measuring.speed`
    kills    rows of a cluster of two nodes, a worker of which and then a node were
             killed with SIGKILL (at_rows: how many were written then), beside those of
             one process: missing, twice, different
    speed    by rounds, pictures a second and a core's milliseconds for one: bare, a
             loop over `find_faces` in a process on one core, and in two at once on one
             each; ray, of clusters of one and of two workers, Ray's own processes and
             this one counted; threads, in this process. From the first fifth of the
             rows to nine tenths, so that starting does not count. per_core is bare's
             milliseconds over the others', which says how fast a core that has nothing
             else to do is; wall is the rates' ratio, on as busy a machine as it was
    memory   most_mib of the command, for lists of few and of many files that are not
             there: nothing but the bulk itself takes memory
    tf_data  of the pipeline for data larger than memory, `measuring.tf_data`
"""

import contextlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import tf_data
from measuring.ray_cluster import (
    Cluster,
    kill_tree,
    make_environment,
    running_cluster,
)
from PIL import Image

PARTS = ("memory", "kills", "speed", "tf_data")


def make_pictures(folder: pathlib.Path, num: int) -> None:
    """Draws JPEG files of 240 x 240 pixels: drawn faces, somewhere, on grays.

    Every hundredth is cut off, and so no picture.
    """
    from deepfer_jax.data.emotions import EMOTIONS
    from deepfer_jax.data.synthetic.builder import draw_face

    faces = [
        draw_face(np.random.default_rng(i), EMOTIONS[i % len(EMOTIONS)])
        for i in range(200)
    ]
    for i in range(num):
        rng = np.random.default_rng([1, i])
        size, shade = int(rng.integers(70, 200)), int(rng.integers(60, 200))
        picture = Image.new("L", (240, 240), shade)
        face = Image.fromarray(faces[rng.integers(len(faces))]).resize((size, size))
        picture.paste(face, tuple(map(int, rng.integers(0, 240 - size, 2))))
        path = folder / f"{i // 1000:03}" / f"{i:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        if i % 100 == 99:
            path.write_bytes(path.read_bytes()[:500])


def start_bulk(
    environment: Mapping[str, str], *arguments: str | pathlib.Path
) -> subprocess.Popen:
    """`deepfer bulk` in a process of its own."""
    command = [sys.executable, "-m", "deepfer_jax", "bulk", *map(str, arguments)]
    return subprocess.Popen(command, env=environment)


def count_rows(out: pathlib.Path) -> int:
    return sum(
        pq.ParquetFile(path).metadata.num_rows for path in out.glob("[a-z]*.parquet")
    )


def read_rows(out: pathlib.Path) -> list[dict]:
    """Rows in the order of their paths; ids are of the list, which has no order."""
    table = pq.read_table(out)
    return table.drop_columns(["id"]).sort_by("path").to_pylist()


def measure_kills(
    photos: pathlib.Path, folder: pathlib.Path, num: int
) -> dict[str, Any]:
    """A cluster of two nodes, of which a worker and then a node are killed."""
    environment = make_environment()
    with running_cluster(environment, num_nodes=2) as cluster:
        out = folder / "killed"
        process = start_bulk(
            environment, photos, "--out", out, "--address", cluster.address,
            *("--part_rows", "200"),
        )  # fmt: skip
        killed = {
            "worker": _kill_at(process, out, num // 4, lambda: _kill_worker(cluster)),
            "node": _kill_at(
                process, out, num // 2, lambda: kill_tree(cluster.nodes[1].pid)
            ),
        }
        if process.wait():
            raise RuntimeError("the command failed")
    if start_bulk(environment, photos, "--out", folder / "alone").wait():
        raise RuntimeError("the command failed alone")
    return {"pictures": num, "killed_at_rows": killed} | compare_rows(
        read_rows(folder / "alone"), read_rows(folder / "killed")
    )


def compare_rows(alone: list[dict], killed: list[dict]) -> dict[str, int]:
    """How many rows of one process are missing, twice or different in another's."""
    by_path = {row["path"]: row for row in killed}
    found = [by_path.get(row["path"]) for row in alone]
    return {
        "rows": len(killed),
        "errors": sum(row["error"] is not None for row in alone),
        "faces": sum(len(row["faces"] or ()) for row in alone),
        "missing": sum(row is None for row in found),
        "twice": len(killed) - len(by_path),
        "different": sum(
            other is not None and row != other
            for row, other in zip(alone, found, strict=True)
        ),
    }


def _kill_at(
    process: subprocess.Popen, out: pathlib.Path, num: int, kill: Callable[[], None]
) -> int:
    """Kills once so many rows are written; returns how many were."""
    while (rows := count_rows(out)) < num:
        if process.poll() is not None:
            raise RuntimeError(f"the command ended at {rows} rows of {num}")
        time.sleep(0.2)
    kill()
    return rows


def find_workers(node: subprocess.Popen) -> list[psutil.Process]:
    """The actors of Ray Data on a node: they call themselves ray::MapWorker..."""
    return [
        process
        for process in psutil.Process(node.pid).children(recursive=True)
        if "MapWorker" in " ".join(process.cmdline())
    ]


def _kill_worker(cluster: Cluster) -> None:
    workers = find_workers(cluster.nodes[0])
    if not workers:
        raise RuntimeError("no worker is there to be killed")
    workers[0].kill()


def measure_speed(photos: pathlib.Path, num: int, num_rounds: int) -> dict[str, Any]:
    """Pictures a second of one and two workers, beside the Analyzer alone."""
    environment = make_environment()
    os.environ.update(environment)  # this process talks to both clusters
    entries = sorted(photos.rglob("*.jpg"))[:num]
    with contextlib.ExitStack() as stack:
        clusters = {
            num_nodes: stack.enter_context(running_cluster(environment, num_nodes))
            for num_nodes in (1, 2)
        }
        bare = [stack.enter_context(Bare(core, environment)) for core in (0, 1)]
        rates: dict[str, list[Speed]] = {}
        for number in range(num_rounds):
            tasks: dict[str, Callable[[], Speed]] = {
                f"{kind}_{workers}": run
                for workers in (1, 2)
                for kind, run in (
                    ("bare", lambda w=workers: run_bare(bare[:w], entries)),
                    ("ray", lambda w=workers: run_ray(clusters[w], entries)),
                )
            }
            tasks["threads_2"] = lambda: run_threads(entries)
            for name in list(tasks) if number % 2 == 0 else list(tasks)[::-1]:
                rates.setdefault(name, []).append(tasks[name]())
                print(name, rates[name][-1], os.getloadavg()[0], flush=True)
    document: dict[str, Any] = {"pictures": num, "per_core": {}, "wall": {}}
    for name in ("ray_1", "ray_2", "threads_2"):
        ours, theirs = rates[name], rates[f"bare_{name[-1]}"]
        document["per_core"][name] = _ratio(
            [x.cpu_ms for x in theirs], [x.cpu_ms for x in ours]
        )
        document["wall"][name] = _ratio(
            [x.rate for x in ours], [x.rate for x in theirs]
        )
    return document | {
        "rates": {
            name: [round(x.rate, 2) for x in some] for name, some in rates.items()
        },
        "cpu_ms": {
            name: [round(x.cpu_ms, 3) for x in some] for name, some in rates.items()
        },
    }


def _ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    ratios = np.array(ours) / theirs
    return {
        "ratio": round(float(np.median(ratios)), 3),
        "lowest": round(float(ratios.min()), 3),
        "highest": round(float(ratios.max()), 3),
    }


class Speed(NamedTuple):
    """Pictures a second, and a core's milliseconds for one, in all processes."""

    rate: float
    cpu_ms: float


class Bare:
    """A loop over `find_faces` in a process on one core."""

    def __init__(self, core: int, environment: Mapping[str, str]):
        program = f"from measuring import bulk; bulk.serve_bare({core})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Bare":
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.wait()

    def start(self, paths: Iterable[pathlib.Path]) -> None:
        line = json.dumps(list(map(str, paths)))
        print(line, file=self._process.stdin, flush=True)

    def wait(self) -> Speed:
        return Speed(*json.loads(self._process.stdout.readline()))


def serve_bare(core: int) -> None:
    """Reads lists of files from the standard input, and answers with a Speed."""
    os.sched_setaffinity(0, {core})
    from deepfer_jax.data.images import ImageError, read_image, to_rgb
    from deepfer_jax.faces.analyzer import Analyzer
    from deepfer_jax.faces.photos import find_faces

    analyzer = Analyzer()
    find_faces(analyzer, np.zeros((240, 240, 3), np.uint8))
    for line in sys.stdin:
        paths = json.loads(line)
        start, cpu_start = time.perf_counter(), time.process_time()
        for path in paths:
            with contextlib.suppress(ImageError):
                find_faces(analyzer, to_rgb(read_image(path)))
        rate = len(paths) / (time.perf_counter() - start)
        cpu_ms = 1e3 * (time.process_time() - cpu_start) / len(paths)
        print(json.dumps((rate, cpu_ms)), flush=True)


def run_bare(workers: list[Bare], paths: list[pathlib.Path]) -> Speed:
    """Each takes its share."""
    for number, worker in enumerate(workers):
        worker.start(paths[number :: len(workers)])
    speeds = [worker.wait() for worker in workers]
    return Speed(
        sum(speed.rate for speed in speeds),
        float(np.mean([speed.cpu_ms for speed in speeds])),
    )


def _open_listing(folder: pathlib.Path, paths: Iterable[pathlib.Path]):
    from deepfer_jax.bulk.listing import Entry, Listing, write_listing

    write_listing(folder / "list.parquet", (Entry(str(p)) for p in paths), {})
    return Listing(folder / "list.parquet")


def run_ray(where: Cluster, paths: list[pathlib.Path]) -> Speed:
    """Of a cluster, starting left out."""
    from deepfer_jax.bulk import cluster, rows

    pids = [os.getpid(), *(node.pid for node in where.nodes)]
    with tempfile.TemporaryDirectory() as folder:
        listing = _open_listing(pathlib.Path(folder), paths)
        none, options = np.zeros(listing.num, bool), rows.ReaderOptions("tiny")
        tables = cluster.read(listing, none, options, where.address)
        return _watch(tables, listing.num, pids)


def run_threads(paths: list[pathlib.Path]) -> Speed:
    """The same of this process."""
    from deepfer_jax.bulk import rows, threads

    with tempfile.TemporaryDirectory() as folder:
        listing = _open_listing(pathlib.Path(folder), paths)
        none, options = np.zeros(listing.num, bool), rows.ReaderOptions("tiny")
        tables = threads.read(listing, none, options)
        return _watch(tables, listing.num, [os.getpid()])


def _watch(tables: Iterator[pa.Table], num: int, pids: list[int]) -> Speed:
    """The speed from the first fifth of the rows to nine tenths.

    Args:
      tables: of rows, as they come.
      num: how many rows there are to be.
      pids: what takes a core's time: of this process alone, of others with all that
        they started.
    """
    arrived = [
        (rows, time.perf_counter(), _cpu_seconds(pids))
        for rows in itertools.accumulate(table.num_rows for table in tables)
    ]
    if arrived[-1][0] != num:
        raise RuntimeError(f"{arrived[-1][0]} rows of {num}")
    inside = [some for some in arrived if 0.2 * num <= some[0] <= 0.9 * num]
    rows, seconds, cpu = np.subtract(inside[-1], inside[0])
    return Speed(float(rows / seconds), float(1e3 * cpu / rows))


def _cpu_seconds(pids: list[int]) -> float:
    """Of processes and those they started, but of this one alone."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        family = [] if pid == os.getpid() else process.children(recursive=True)
        for one in [process, *family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(one.cpu_times()[:2])
    return total


def measure_memory(folder: pathlib.Path, nums: tuple[int, ...]) -> dict[str, Any]:
    """The most memory of the command for lists of files that are not there.

    Each is a row with an error, so that only the number of them differs.
    """
    environment, rows = make_environment(), []
    for num in nums:
        table = folder / f"paths_{num}.parquet"
        with pq.ParquetWriter(table, pa.schema([("path", pa.string())])) as writer:
            for start in range(0, num, 10_000):
                some = range(start, min(start + 10_000, num))
                writer.write_table(
                    pa.table({"path": [f"nowhere/{i:09}.jpg" for i in some]})
                )
        out, start_s = folder / f"missing_{num}", time.monotonic()
        process = start_bulk(environment, table, "--out", out, "--part_rows", "10000")
        most = 0
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                most = max(most, psutil.Process(process.pid).memory_info().rss)
            time.sleep(0.1)
        rows.append(
            {
                "files": num,
                "rows": count_rows(out),
                "most_mib": round(most / 2**20, 1),
                "seconds": round(time.monotonic() - start_s, 1),
            }
        )
    return {"lists": rows}


def measure(
    folder: pathlib.Path,
    wanted: Iterable[str],
    num: int,
    num_speed: int,
    num_rounds: int,
    num_listed: int,
    num_trained: int,
) -> Iterator[tuple[str, Any]]:
    """Yields what is measured, with its name, part after part.

    Args:
      folder: for pictures and rows, some hundred megabytes.
      wanted: of PARTS.
      num: pictures of the kills.
      num_speed: pictures of a round of speed.
      num_rounds: of speed.
      num_listed: files on the longer list of memory.
      num_trained: faces of the larger data set that tf.data reads.
    """
    photos = folder / "photos"
    if {"kills", "speed"} & set(wanted):
        make_pictures(photos, num)
    parts: dict[str, Callable[[], Any]] = {
        "memory": lambda: measure_memory(folder, (num_listed // 100, num_listed)),
        "kills": lambda: measure_kills(photos, folder, num),
        "speed": lambda: measure_speed(photos, num_speed, num_rounds),
        "tf_data": lambda: tf_data.measure_pipeline(
            folder / "faces", (num_trained // 4, num_trained), make_environment()
        ),
    }
    for name in wanted:
        yield name, parts[name]()
