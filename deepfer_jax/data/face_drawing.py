"""Draws a face of 48x48 pixels from action units, a person, a pose and a light.

    rng = np.random.default_rng(0)
    person, pose = sample_person(rng), sample_pose(rng)
    canvas = Canvas(pose, background=0.5)
    draw_head(canvas, person, ActionUnits({12: 1.0, 25: 0.8}))   # a smile with parted lips
    image = canvas.reduced()                                     # float [48, 48], 0 to 1

Coordinates are the face's own: x to the image's right, y down, the origin between the
eyes and the nose's tip, and about one unit from there to the side of the head and to the
chin. Tones are 0 (black) to 1 (white). Polygons are drawn four times too large and
averaged down; what is soft (light, cheeks, eye sockets) is in `face_light.py`.
"""

import numpy as np
from PIL import Image, ImageDraw

from deepfer_jax.data.face_sampling import ActionUnits, Person, Pose

SIZE = 48
EYE_Y = -0.17
_SUPERSAMPLING = 4
_ROUND = np.linspace(0, 2 * np.pi, 21)[:-1]
_ACROSS = np.linspace(-1, 1, 15)
_SIDES = (-1, 1)


def project(pose: Pose, x, y, depth=None) -> np.ndarray:
    """Maps face coordinates [n] to pixels [n, 2]; depth None is the head's front."""
    if depth is None:
        depth = 0.85 * np.sqrt(np.maximum(1 - x * x - (y / 1.5) ** 2, 0.05))
    x = x * np.cos(pose.yaw) + depth * np.sin(pose.yaw)
    y = y * np.cos(pose.pitch) + depth * np.sin(pose.pitch)
    cos, sin = pose.scale * np.cos(pose.roll), pose.scale * np.sin(pose.roll)
    return np.stack(
        [pose.center[0] + cos * x - sin * y, pose.center[1] + sin * x + cos * y], -1
    )


class Canvas:
    """A large gray image that is drawn on in face coordinates."""

    def __init__(self, pose: Pose, background: float):
        side = SIZE * _SUPERSAMPLING
        self._pose = pose
        self._image = Image.new("L", (side, side), self._level(background))
        self._draw = ImageDraw.Draw(self._image)

    @staticmethod
    def _level(tone: float) -> int:
        return int(min(max(255 * tone, 0), 255))

    def fill(self, x, y, tone: float, depth=None) -> None:
        """Fills the polygon with corners x, y, each [n]."""
        points = project(self._pose, x, y, depth) * _SUPERSAMPLING
        self._draw.polygon(points.ravel().tolist(), fill=self._level(tone))

    def stroke(self, x, y, width, tone: float, depth=None) -> None:
        """Draws a line along x, y; its width is a number or [n], in face coordinates."""
        along_x, along_y = np.gradient(x), np.gradient(y)
        half = 0.5 * width / np.maximum(np.hypot(along_x, along_y), 1e-6)
        right, down = -along_y * half, along_x * half
        x = np.concatenate([x + right, (x - right)[::-1]])
        y = np.concatenate([y + down, (y - down)[::-1]])
        self.fill(x, y, tone, depth)

    def reduced(self) -> np.ndarray:
        """Returns the image averaged down: float32 [48, 48], 0 to 1."""
        return np.asarray(self._image.reduce(_SUPERSAMPLING), np.float32) / 255


def draw_head(canvas: Canvas, person: Person, units: ActionUnits) -> None:
    """Draws the whole head, from back to front."""
    _draw_behind(canvas, person)
    _draw_skull(canvas, person, units)
    if person.beard:
        _draw_beard(canvas, person, units)
    _draw_folds(canvas, person, units)
    _draw_nose(canvas, person, units)
    _draw_mouth(canvas, person, units)
    for side in _SIDES:
        _draw_eye(canvas, person, units, side)
        _draw_brow(canvas, person, units, side)
    _draw_hair(canvas, person)
    if person.glasses:
        _draw_glasses(canvas, person)


def jaw_drop(units: ActionUnits) -> float:
    """How far the chin goes down, in face coordinates."""
    return 0.07 * units[26] + 0.12 * units[27]


def _draw_behind(canvas: Canvas, person: Person) -> None:
    """Shoulders, neck, and the hair or scarf that falls behind the head."""
    x, y = 1.9 * np.cos(_ROUND), 2.1 + 0.75 * np.sin(_ROUND)
    canvas.fill(x, y, person.clothes, depth=-0.3)
    if person.hair_style in ("long", "scarf"):
        tone = person.hair if person.hair_style == "long" else person.clothes
        x = (person.width + 0.24) * np.cos(_ROUND)
        y = np.where(np.sin(_ROUND) > 0, 1.6, 1.42) * np.sin(_ROUND)
        canvas.fill(x * np.where(y > 0.8, 0.9, 1), y, tone, depth=0)
    neck = 0.5 * person.width + 0.05
    x = np.array([-neck, neck, neck + 0.08, -neck - 0.08])
    canvas.fill(x, np.array([0.5, 0.5, 1.6, 1.6]), 0.72 * person.skin, depth=0)


def _skull(person: Person, units: ActionUnits, angles=_ROUND):
    cos, sin = np.cos(angles), np.sin(angles)
    below = sin > 0
    x = person.width * np.sign(cos) * np.abs(cos) ** np.where(below, person.jaw, 1)
    chin = person.chin + jaw_drop(units) - 0.02 * units[17]
    return x, np.where(below, chin, 1.25) * sin


def _draw_skull(canvas: Canvas, person: Person, units: ActionUnits) -> None:
    if person.hair_style not in ("long", "scarf"):
        for side in _SIDES:
            x = side * (person.width + 0.03) + 0.1 * np.cos(_ROUND)
            y = -0.02 + 0.2 * np.sin(_ROUND)
            canvas.fill(x, y, 0.86 * person.skin, depth=-0.05)
    canvas.fill(*_skull(person, units), person.skin, depth=0)


def _draw_beard(canvas: Canvas, person: Person, units: ActionUnits) -> None:
    """A beard, from stubble to full: it leaves the mouth's surroundings lighter."""
    tone = person.skin * (1 - person.beard) + person.hair * person.beard
    low = np.linspace(0.02 * np.pi, 0.98 * np.pi, 15)
    x, y = _skull(person, units, low)
    top = 0.42 + 0.28 * np.exp(-((x / 0.3) ** 2)) - 0.4 * (x / person.width) ** 6
    top = np.minimum(top + 0.25 * (1 - (x / person.width) ** 2), y)
    x = np.concatenate([x, x[::-1]])
    canvas.fill(x, np.concatenate([y, top[::-1]]), tone, depth=0)


def _draw_folds(canvas: Canvas, person: Person, units: ActionUnits) -> None:
    """Wrinkles that muscles make (strong) or age has made (weak)."""
    t = np.linspace(0, 1, 7)
    taper = np.sin(np.pi * np.clip(t, 0.05, 0.97))
    skin = person.skin

    def crease(x, y, width, strength):
        if strength > 0.1:
            tone = skin * (1 - 0.4 * min(strength, 1))
            canvas.stroke(x, y, width * taper, tone)

    cheeks = 0.7 * units[12] + 0.6 * units[10] + 0.7 * units[9] + 0.3 * person.age
    wide = person.mouth_width * (1.12 + 0.3 * units[12] + 0.2 * units[20]) + 0.06
    raised = np.tanh(2 * (units[1] - 0.5 * units[4])) + units[2] + 0.3 * person.age
    for side in _SIDES:
        # Nasolabial: from the nose's wing round the corner of the mouth.
        start, end = person.nose_width + 0.05, wide
        x = start + (end - start) * np.sin(0.5 * np.pi * t)
        y = person.nose_length - 0.05 - 0.05 * units[9] + 0.33 * t**1.3
        crease(side * x, y, 0.045, cheeks)
        # Frown lines between the brows, and across the root of a wrinkled nose.
        y = -0.5 + 0.24 * t + 0.06 * units[4]
        crease(side * (0.07 + 0.02 * t), y, 0.045, 1.1 * (units[4] - 0.5 * units[1]))
        for up in (0.0, 0.1):
            y = -0.16 + up + 0.05 * t
            crease(side * (0.03 + 0.13 * t), y, 0.045, 1.1 * units[9])
        # Crow's feet, and the pouch under the eye.
        for tilt in (-0.06, 0.05):
            x = person.eye_gap + person.eye_width + 0.05 + 0.12 * t
            crease(side * x, EYE_Y + tilt * (1 + t), 0.025, units[6] - 0.2)
        x = person.eye_gap + person.eye_width * (1.8 * t - 0.9)
        y = EYE_Y + 0.14 + 0.03 * np.sin(np.pi * t) - 0.02 * units[6]
        crease(side * x, y, 0.025, 0.5 * (units[6] + units[9]) + 0.3 * person.age)
    for height in (-0.66, -0.76):
        x = 0.42 * (2 * t - 1)
        crease(x, height + 0.03 * x**2, 0.03, 0.6 * raised)


def _draw_nose(canvas: Canvas, person: Person, units: ActionUnits) -> None:
    lifted = 0.05 * units[9] + 0.02 * units[10]
    wing = person.nose_width * (1 + 0.18 * units[9] + 0.08 * units[12])
    base = person.nose_length - lifted
    t = np.linspace(0, 1, 7)
    for side in _SIDES:
        # The bridge's edge is faint; the wing curls round under the nostril.
        x = side * (0.075 + 0.02 * t**2)
        canvas.stroke(x, -0.12 + (base - 0.02) * t, 0.025, 0.9 * person.skin)
        angle = -0.4 * np.pi + 1.0 * np.pi * t
        x = side * (wing - 0.06 + 0.06 * np.cos(angle))
        y = base - 0.05 + 0.065 * np.sin(angle)
        canvas.stroke(x, y, 0.035 * np.sin(np.pi * t + 0.1), 0.62 * person.skin)
        x = side * (0.45 * wing) + 0.042 * np.cos(_ROUND)
        canvas.fill(x, base + 0.01 + 0.02 * np.sin(_ROUND), 0.4 * person.skin)


def _mouth_curves(person: Person, units: ActionUnits):
    """Returns x and the four edges [15] of the lips: outer, inner upper, inner, outer."""
    open_mouth = max(units[26], units[27]) > 0.5 and units[20] < 0.3 and units[12] < 0.3
    rounded = units[27] + 0.5 * units[26] if open_mouth else 0.0
    width = person.mouth_width * (
        1 + 0.3 * units[12] + 0.32 * units[20] - 0.22 * rounded - 0.08 * units[24]
    )
    lift = -0.15 * units[12] + 0.13 * units[15] + 0.03 * units[20] - 0.02 * units[10]
    lift += 0.09 * rounded
    sag = 0.02 * units[12] + 0.03 * rounded - 0.03 * units[17]
    line = person.mouth_height + sag + (lift - sag) * np.abs(_ACROSS) ** 1.8
    # The wider the exponent, the rounder: a square bared mouth keeps its height.
    square = min(units[22] + 0.6 * units[20], 1)
    bow = (1 - _ACROSS**2) ** (0.6 - 0.32 * square - 0.12 * min(rounded, 1))
    upper = line - bow * (0.055 * units[25] + 0.05 * units[10] * units[25])
    drop = units[25] * (0.06 + 0.06 * units[12]) + 0.11 * units[26]
    lower = line + bow * (drop + 0.2 * units[27] + 0.03 * units[22])
    upper = upper - bow * 0.09 * rounded
    thick = person.lips * (1 - 0.6 * min(units[24], 1.2)) * (1 - 0.25 * units[12])
    cupid = 1 - 0.3 * np.exp(-((_ACROSS / 0.18) ** 2))
    raise_ = 0.06 * units[10] * np.exp(-(((np.abs(_ACROSS) - 0.4) / 0.3) ** 2))
    taper = (1 - _ACROSS**2) ** 0.6
    outer_upper = upper - taper * cupid * (0.058 * thick) - 0.7 * raise_
    outer_lower = lower + taper * (0.078 * thick + 0.03 * units[17] * (units[24] < 0.5))
    upper = np.minimum(upper - 0.35 * raise_ * units[25], line)
    return width * _ACROSS, outer_upper, upper, lower, outer_lower


def _draw_mouth(canvas: Canvas, person: Person, units: ActionUnits) -> None:
    x, outer_upper, upper, lower, outer_lower = _mouth_curves(person, units)
    there_and_back = np.concatenate([x, x[::-1]])
    lips = person.lip_tone * person.skin

    def between(above, below, tone):
        canvas.fill(there_and_back, np.concatenate([above, below[::-1]]), tone)

    if person.moustache:
        top = outer_upper - 0.1 * (1 - _ACROSS**2) ** 0.4
        tone = person.skin + (person.hair - person.skin) * person.moustache
        between(top, outer_upper, tone)
    between(outer_upper, upper, 0.92 * lips)
    between(lower, outer_lower, 1.05 * lips)
    if (lower - upper).max() > 0.03:
        between(upper, lower, 0.1)
        if units[27] < 0.3:
            inner = np.abs(_ACROSS) < 0.9
            gap = lower - upper
            high = 0.45 if units[20] + units[22] > 0.3 else 0.62
            teeth = upper + np.minimum(0.11, high * gap)
            tx, top, teeth = x[inner], upper[inner], teeth[inner]
            canvas.fill(
                np.concatenate([tx, tx[::-1]]), np.concatenate([top, teeth[::-1]]), 0.9
            )
            if units[22] > 0.3:
                bottom, top = lower[inner], (lower - 0.38 * gap)[inner]
                canvas.fill(
                    np.concatenate([tx, tx[::-1]]),
                    np.concatenate([top, bottom[::-1]]),
                    0.8,
                )
    else:
        width = 0.035 * (1 - 0.7 * _ACROSS**2)
        canvas.stroke(x, 0.5 * (upper + lower), width, 0.35 * person.skin)
    for side, end in zip(_SIDES, (0, -1), strict=True):
        # The corner's shadow makes the mouth's direction readable.
        cx = x[end] + side * 0.01 + 0.03 * np.cos(_ROUND)
        canvas.fill(cx, upper[end] + 0.022 * np.sin(_ROUND), 0.5 * person.skin)


def _draw_eye(canvas: Canvas, person: Person, units: ActionUnits, side: int) -> None:
    """side: -1 or 1; curves go from the inner corner (-1) to the outer (1)."""
    x = side * (person.eye_gap + person.eye_width * _ACROSS)
    line = EYE_Y - person.eye_tilt * _ACROSS
    closing = min(0.05 * units[43] + 0.02 * units[6] + 0.025 * units[7], 0.065)
    above = person.eye_open * (0.09 - closing + 0.055 * units[5] - 0.015 * units[9])
    below = person.eye_open * max(
        0.06 + 0.01 * units[5] - 0.025 * units[7] - 0.03 * units[6], 0.02
    )
    oblique = 0.35 * units[43] * _ACROSS + 0.2 * units[4] * -_ACROSS * (units[1] < 0.4)
    bow = (1 - _ACROSS**2) ** 0.7
    upper = line - above * bow * (1 - oblique)
    lower = line + below * bow
    outline = np.concatenate([x, x[::-1]])
    white = 0.35 + 0.5 * person.skin**0.5 + 0.08
    canvas.fill(outline, np.concatenate([upper, lower[::-1]]), white)
    for radius, tone in ((0.093, person.iris), (0.045, 0.02)):
        # Clipped to the lids, an iris is a polygon too.
        along = (person.gaze + radius * np.cos(_ROUND)) * side / person.eye_width
        y = EYE_Y - 0.008 + radius * np.sin(_ROUND)
        y = np.clip(
            y, np.interp(along, _ACROSS, upper), np.interp(along, _ACROSS, lower)
        )
        ix = side * person.eye_gap + person.gaze + radius * np.cos(_ROUND)
        canvas.fill(ix, y, tone)
    glint = side * person.eye_gap + person.gaze - 0.03 + 0.022 * np.cos(_ROUND)
    if above > 0.055:
        canvas.fill(glint, EYE_Y - 0.04 + 0.022 * np.sin(_ROUND), 0.95)
    lid = (0.05 if person.lashes else 0.035) * (0.5 + 0.5 * (1 - _ACROSS**2))
    canvas.stroke(x, upper, lid, 0.25 * person.skin)
    canvas.stroke(x, lower, 0.018, 0.62 * person.skin)
    crease = upper - 0.045 - 0.02 * units[43] + 0.015 * units[5]
    canvas.stroke(x, crease, 0.022, (0.72 - 0.1 * person.age) * person.skin)


def _draw_brow(canvas: Canvas, person: Person, units: ActionUnits, side: int) -> None:
    """A tapered line through an inner, a middle and an outer point."""
    t = np.linspace(0, 1, 9)
    together = 0.045 * units[4]
    base = EYE_Y - person.brow_height
    inner = base + 0.02 - 0.16 * units[1] + 0.13 * units[4] + 0.05 * units[9]
    middle = base - person.brow_arch - 0.05 * units[1] - 0.12 * units[2]
    middle += 0.06 * units[4] + 0.04 * units[9]
    outer = base + 0.03 - 0.1 * units[2] + 0.01 * units[4] + 0.015 * units[1]
    outer += 0.02 * units[43]
    y = inner * (1 - t) * (1 - 2 * t) + middle * 4 * t * (1 - t) + outer * t * (2 * t - 1)
    start, end = person.eye_gap - 0.21 - together, person.eye_gap + 0.26
    width = person.brow_width * np.minimum(1, 2.2 * (1 - t) + 0.25) * (0.75 + 0.3 * t)
    tone = min(0.75 * person.hair, 0.6 * person.skin)
    canvas.stroke(side * (start + (end - start) * t), y, 1.5 * width, tone)


def _draw_hair(canvas: Canvas, person: Person) -> None:
    if person.hair_style == "bald":
        return
    scarf = person.hair_style == "scarf"
    tone = person.clothes if scarf else person.hair
    angles = np.linspace(np.pi * 0.98, 2.02 * np.pi, 17)
    volume = {"short": 0.06, "fringe": 0.12, "parted": 0.12}.get(person.hair_style, 0.17)
    x = (person.width + volume) * np.cos(angles)
    y = (1.27 + volume) * np.sin(angles) + 0.02
    across = np.cos(angles[::-1])
    low = person.hairline * np.sqrt(np.maximum(1 - across**4, 0))
    if person.hair_style == "fringe":
        low = low + 0.22 * np.maximum(1 - across**4, 0)
    elif person.hair_style in ("parted", "long"):
        low = low + 0.2 * np.abs(across - person.part) - 0.06
    under = (person.width - 0.03) * across
    canvas.fill(np.concatenate([x, under]), np.concatenate([y, low]), tone, depth=0)
    shine = slice(3, 11)
    if not scarf:
        canvas.stroke(
            0.88 * x[shine], 0.9 * y[shine], 0.08, tone + 0.25 * (0.3 - 0.2 * tone), depth=0
        )


def _draw_glasses(canvas: Canvas, person: Person) -> None:
    t = np.linspace(0, 2 * np.pi, 17)
    frame = 0.45 * person.iris
    for side in _SIDES:
        x = side * (person.eye_gap + 0.01) + 0.25 * np.cos(t)
        canvas.stroke(x, EYE_Y + 0.03 + 0.19 * np.sin(t), person.glasses, frame)
    x = np.linspace(-1, 1, 5) * (person.eye_gap - 0.23)
    canvas.stroke(x, EYE_Y - 0.02 - 0.03 * (1 - np.linspace(-1, 1, 5) ** 2), 0.03, frame)
