"""Draws a face of 48x48 pixels from action units, a person and a pose.

    person, pose = sample_person(rng), sample_pose(rng)
    canvas = Canvas(pose, background=0.5)
    draw_head(canvas, person, ActionUnits({12: 1.0, 25: 0.8}))  # a smile, lips parted
    image = canvas.reduced()                                    # float32 [48, 48]

Each function draws one part, in the face coordinates of `canvas.py`; lengths below
are in its units. Soft shadows are not drawn but computed, in `light.py`.
"""

import numpy as np

from deepfer_jax.data.synthetic.canvas import Canvas
from deepfer_jax.data.synthetic.sampling import ActionUnits, Person

EYE_Y = -0.17
_ROUND = np.linspace(0, 2 * np.pi, 21)[:-1]
_ACROSS = np.linspace(-1, 1, 15)
_SIDES = (-1, 1)


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
    x, y = 1.8 * np.cos(_ROUND), 2.1 + 0.85 * np.sin(_ROUND)
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
    x, y = _skull(person, units)
    canvas.fill(x, y, person.skin, depth=0)


def _draw_beard(canvas: Canvas, person: Person, units: ActionUnits) -> None:
    """A beard, from stubble to full, along the jaw and up to the lower lip."""
    tone = person.skin + (person.hair - person.skin) * person.beard
    x, y = _skull(person, units, np.linspace(0.02 * np.pi, 0.98 * np.pi, 15))
    chin = person.mouth_height + 0.2 + jaw_drop(units)
    top = np.minimum(chin - (chin - 0.05) * np.abs(x / person.width) ** 4, y)
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


def _rounding(units: ActionUnits) -> float:
    """How much an open mouth is an oval: none if something pulls it to the sides."""
    if max(units[12], units[20], units[22]) > 0.3:
        return 0.0
    return units[27] + 0.5 * units[26]


def _lip_line(person: Person, units: ActionUnits) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and y [15] of the closed mouth's line, from left to right."""
    rounded = _rounding(units)
    width = person.mouth_width * (
        1 + 0.3 * units[12] + 0.32 * units[20] - 0.22 * rounded - 0.08 * units[24]
    )
    middle = person.mouth_height + 0.02 * units[12] - 0.03 * units[17] + 0.03 * rounded
    corners = person.mouth_height + 0.09 * rounded + 0.07 * units[20]
    corners += 0.13 * units[15] - 0.15 * units[12] - 0.02 * units[10]
    return width * _ACROSS, middle + (corners - middle) * np.abs(_ACROSS) ** 1.8


def _lips(person: Person, units: ActionUnits) -> tuple[np.ndarray, ...]:
    """Returns x and y of the lips' edges, [15] each: outer, inner, inner, outer."""
    x, line = _lip_line(person, units)
    rounded = _rounding(units)
    # A small exponent makes a box (bared teeth), one half an ellipse.
    square = min(units[22] + 0.6 * units[20], 1)
    bow = (1 - _ACROSS**2) ** (0.6 - 0.32 * square - 0.12 * min(rounded, 1))
    sneer = 0.06 * units[10] * np.exp(-(((np.abs(_ACROSS) - 0.4) / 0.3) ** 2))
    upper = line - bow * (units[25] * (0.055 + 0.05 * units[10]) + 0.09 * rounded)
    upper = np.minimum(upper - 0.35 * sneer * units[25], line)
    down = units[25] * (0.06 + 0.06 * units[12]) + 0.11 * units[26] + 0.2 * units[27]
    lower = line + bow * (down + 0.03 * units[22])

    thick = person.lips * (1 - 0.6 * min(units[24], 1.2)) * (1 - 0.25 * units[12])
    taper = (1 - _ACROSS**2) ** 0.6
    cupid = 1 - 0.3 * np.exp(-((_ACROSS / 0.18) ** 2))
    pout = 0.03 * units[17] * (units[24] < 0.5)
    outer_upper = upper - taper * cupid * 0.058 * thick - 0.7 * sneer
    return x, outer_upper, upper, lower, lower + taper * (0.078 * thick + pout)


def _draw_mouth(canvas: Canvas, person: Person, units: ActionUnits) -> None:
    x, outer_upper, upper, lower, outer_lower = _lips(person, units)

    def between(above, below, tone, part=slice(None)):
        y = np.concatenate([above[part], below[part][::-1]])
        canvas.fill(np.concatenate([x[part], x[part][::-1]]), y, tone)

    if person.moustache:
        top = outer_upper - 0.1 * (1 - _ACROSS**2) ** 0.4
        tone = person.skin + (person.hair - person.skin) * person.moustache
        between(top, outer_upper, tone)
    lips = person.lip_tone * person.skin
    between(outer_upper, upper, 0.92 * lips)
    between(lower, outer_lower, 1.05 * lips)
    gap = lower - upper
    if gap.max() > 0.03:
        between(upper, lower, 0.1)
        if _rounding(units) < 0.3:
            part = slice(1, -1)
            share = 0.45 if units[20] + units[22] > 0.3 else 0.62
            between(upper, upper + np.minimum(0.11, share * gap), 0.9, part)
            if units[22] > 0.3:
                between(lower - 0.38 * gap, lower, 0.8, part)
    else:
        width = 0.035 * (1 - 0.7 * _ACROSS**2)
        canvas.stroke(x, 0.5 * (upper + lower), width, 0.35 * person.skin)
    for corner in (0, -1):
        # Their shadows make the mouth's direction readable.
        y = upper[corner] + 0.022 * np.sin(_ROUND)
        canvas.fill(1.03 * x[corner] + 0.03 * np.cos(_ROUND), y, 0.5 * person.skin)


def _draw_eye(canvas: Canvas, person: Person, units: ActionUnits, side: int) -> None:
    """side: -1 or 1; curves go from the inner corner (-1) to the outer (1)."""
    x = side * (person.eye_gap + person.eye_width * _ACROSS)
    line = EYE_Y - person.eye_tilt * _ACROSS
    closing = min(0.05 * units[43] + 0.02 * units[6] + 0.025 * units[7], 0.065)
    above = person.eye_open * (0.09 - closing + 0.055 * units[5] - 0.015 * units[9])
    below = person.eye_open * max(
        0.06 + 0.01 * units[5] - 0.025 * units[7] - 0.03 * units[6], 0.02
    )
    oblique = (0.35 * units[43] - 0.2 * units[4] * (units[1] < 0.4)) * _ACROSS
    bow = (1 - _ACROSS**2) ** 0.7
    upper = line - above * bow * (1 - oblique)
    lower = line + below * bow
    white = 0.43 + 0.5 * person.skin**0.5
    outline = np.concatenate([x, x[::-1]])
    canvas.fill(outline, np.concatenate([upper, lower[::-1]]), white)
    _draw_iris(canvas, person, side, upper, lower)
    lid = (0.05 if person.lashes else 0.035) * (1 - 0.5 * _ACROSS**2)
    canvas.stroke(x, upper, lid, 0.25 * person.skin)
    canvas.stroke(x, lower, 0.018, 0.62 * person.skin)
    crease = upper - 0.045 - 0.02 * units[43] + 0.015 * units[5]
    canvas.stroke(x, crease, 0.022, (0.72 - 0.1 * person.age) * person.skin)


def _draw_iris(canvas: Canvas, person: Person, side: int, upper, lower) -> None:
    """Iris, pupil and glint, as much of them as the lids leave free."""
    center = side * person.eye_gap + person.gaze
    for radius, tone in ((0.093, person.iris), (0.045, 0.02)):
        right = radius * np.cos(_ROUND)
        along = (person.gaze + right) * side / person.eye_width
        y = EYE_Y - 0.008 + radius * np.sin(_ROUND)
        lids = np.interp(along, _ACROSS, upper), np.interp(along, _ACROSS, lower)
        canvas.fill(center + right, np.clip(y, *lids), tone)
    if EYE_Y - upper.min() > 0.06:
        y = EYE_Y - 0.04 + 0.022 * np.sin(_ROUND)
        canvas.fill(center - 0.03 + 0.022 * np.cos(_ROUND), y, 0.95)


def _draw_brow(canvas: Canvas, person: Person, units: ActionUnits, side: int) -> None:
    """A tapered line through an inner, a middle and an outer point."""
    t = np.linspace(0, 1, 9)
    together = 0.045 * units[4]
    base = EYE_Y - person.brow_height
    inner = base + 0.02 - 0.16 * units[1] + 0.13 * units[4] + 0.05 * units[9]
    middle = base - person.brow_arch - 0.05 * units[1] - 0.12 * units[2]
    middle += 0.06 * units[4] + 0.04 * units[9]
    outer = base + 0.03 - 0.1 * units[2] + 0.01 * units[4] + 0.05 * units[43]
    y = inner * (1 - t) * (1 - 2 * t) + outer * t * (2 * t - 1)
    y += middle * 4 * t * (1 - t)
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
    volume = {"short": 0.06, "long": 0.17, "scarf": 0.17}.get(person.hair_style, 0.12)
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
    if not scarf:
        shine = 0.95 * tone + 0.075
        canvas.stroke(0.88 * x[3:11], 0.9 * y[3:11], 0.08, shine, depth=0)


def _draw_glasses(canvas: Canvas, person: Person) -> None:
    t = np.linspace(0, 2 * np.pi, 17)
    frame = 0.45 * person.iris
    for side in _SIDES:
        x = side * (person.eye_gap + 0.01) + 0.25 * np.cos(t)
        canvas.stroke(x, EYE_Y + 0.03 + 0.19 * np.sin(t), person.glasses, frame)
    x = np.linspace(-1, 1, 5) * (person.eye_gap - 0.23)
    canvas.stroke(x, EYE_Y - 0.05 + 0.5 * x**2, 0.03, frame)
