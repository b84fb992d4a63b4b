"""Files that are no images, or unusual ones, and what came of them.

    tally = Tally()
    for item in make_inputs(1000):
        tally.add(item, ask(item.data))
    tally.describe()                # {"refused": 666, "read": 334, "failed": 0, ...}

An answer is what the server says: {"error": ...} or {"faces": [...], ...}.
"""

import collections
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from measuring.realtime import make_frame
from PIL import Image

_TEXTS = [b"", b"{}", b'{"image": 1}', b"[[[[", b"<html></html>", b"null", b"\xff\xfe"]


def encode(image: np.ndarray | Image.Image, kind: str = "JPEG", **options) -> bytes:
    """A picture as a file of that kind."""
    file = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(file, kind, **options)
    return file.getvalue()


class Input(NamedTuple):
    """A file of some kind; refused says whether it must be, None that it may be."""

    kind: str
    data: bytes
    refused: bool | None = True


def claim_size(png: bytes, width: int, height: int) -> bytes:
    """A PNG whose header says that it is larger than it is."""
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def make_inputs(num: int, seed: int = 0) -> Iterator[Input]:
    """Yields files that are no images, or unusual ones, one kind after the other."""
    rng = np.random.default_rng(seed)
    photo = np.asarray(Image.fromarray(make_frame(1)).resize((160, 120)))
    jpeg, png = encode(photo, "JPEG"), encode(photo, "PNG")
    more = [Image.fromarray(photo).rotate(angle) for angle in (5, 10)]
    gray = photo[..., 1]
    inked = Image.fromarray(photo).convert("CMYK")
    deep = Image.fromarray(gray.astype(np.uint16) * 257)

    def cut(data: bytes) -> bytes:
        return data[: int(rng.integers(1, len(data) - 100))]

    def change(data: bytes) -> bytes:
        changed = np.frombuffer(data, np.uint8).copy()
        changed[rng.integers(0, len(data), 20)] = rng.integers(0, 256, 20)
        return changed.tobytes()

    def animate() -> bytes:
        kind = rng.choice(["GIF", "PNG", "WEBP"])
        return encode(Image.fromarray(photo), kind, save_all=True, append_images=more)

    def claim() -> bytes:
        return claim_size(png, *map(int, 2 ** rng.uniform(8, 31, 2)))

    kinds = [
        lambda: Input("random bytes", rng.bytes(int(rng.integers(1, 5000)))),
        lambda: Input("text", _TEXTS[rng.integers(len(_TEXTS))]),
        lambda: Input("cut JPEG", cut(jpeg)),
        lambda: Input("cut PNG", cut(png)),
        lambda: Input("changed JPEG", change(jpeg), None),
        lambda: Input("changed PNG", change(png), None),
        lambda: Input("false size", claim()),
        lambda: Input("animation", animate()),
        lambda: Input("floating point", encode(gray.astype(np.float32), "TIFF")),
        lambda: Input("16 bits", encode(deep, "PNG"), False),
        lambda: Input("CMYK", encode(inked, "JPEG"), False),
        lambda: Input("one row", encode(photo[:1], "PNG"), False),
    ]  # fmt: skip
    for i in range(num):
        yield kinds[i % len(kinds)]()


class Tally:
    """Counts of what came of inputs, of every kind of input."""

    def __init__(self):
        self._totals = collections.Counter()
        self._kinds = collections.defaultdict(collections.Counter)
        self._good = collections.Counter()

    def add(self, item: Input, answer: dict[str, Any] | None) -> None:
        """Takes the answer to an input: None if there was none."""
        if answer is None or ("error" in answer) == ("faces" in answer):
            outcome = "failed"
        else:
            outcome = "refused" if "error" in answer else "read"
            if item.refused is not None and item.refused != (outcome == "refused"):
                outcome = "failed"
        self._totals[outcome] += 1
        self._kinds[item.kind][outcome] += 1

    def add_good(self, answer: dict[str, Any] | None) -> None:
        faces = (answer or {}).get("faces", ())
        happy = [face["label"] for face in faces] == ["happy"]
        self._good["answered" if happy else "failed"] += 1

    def describe(self) -> dict[str, Any]:
        names = ("refused", "read", "failed")
        counts = {name: self._totals[name] for name in names}
        good = {name: self._good[name] for name in ("answered", "failed")}
        kinds = {kind: dict(counts) for kind, counts in sorted(self._kinds.items())}
        return counts | {"good_frames": good, "kinds": kinds}
