"""What varies between drawn faces: expression, person and pose.

    rng = np.random.default_rng(0)
    person, pose = sample_person(rng), sample_pose(rng)
    units = sample_action_units(rng, "happy")         # e.g. {6: 0.8, 12: 1.1, 25: 0.9}

An expression is a set of action units of FACS (Ekman and Friesen 1978), by number, with
intensities of about 0 to 1; the combinations are the emotions' prototypes and their
common variants. Everything is drawn from `rng`, in a fixed order.
"""

import collections
import dataclasses

import numpy as np

from deepfer_jax.data.emotions import EMOTIONS

# Number -> intensity; a unit that is not there is 0.
ActionUnits = collections.Counter

#  1 inner brow raiser      2 outer brow raiser       4 brow lowerer
#  5 upper lid raiser       6 cheek raiser            7 lid tightener
#  9 nose wrinkler         10 upper lip raiser       12 lip corner puller
# 15 lip corner depressor  17 chin raiser            20 lip stretcher
# 22 lips squared, bared   24 lip presser            25 lips part
# 26 jaw drop              27 mouth stretch          43 lids droop
EXPRESSIONS: dict[str, tuple[dict[int, float], ...]] = {
    "angry": (
        {4: 1.0, 7: 0.8, 17: 0.5, 24: 1.0},
        {4: 1.0, 5: 0.4, 7: 0.6, 17: 0.3, 24: 0.9},
        {4: 1.0, 5: 0.3, 7: 0.6, 22: 1.0, 25: 1.0, 26: 0.6},
    ),
    "disgust": (
        {4: 0.4, 6: 0.3, 7: 0.5, 9: 1.0, 10: 0.9, 15: 0.5, 17: 0.6},
        {4: 0.4, 6: 0.3, 7: 0.5, 9: 1.0, 10: 1.1, 15: 0.4, 25: 0.6},
    ),
    "fear": (
        {1: 1.1, 2: 0.4, 4: 0.5, 5: 0.9, 20: 1.0, 25: 0.9, 26: 0.3},
        {1: 1.1, 2: 0.5, 4: 0.5, 5: 1.0, 20: 0.9, 25: 1.0, 26: 0.8},
    ),
    "happy": (
        {6: 0.8, 12: 1.0, 25: 0.9},
        {6: 1.0, 12: 1.1, 25: 1.1, 26: 0.6},
        {6: 0.7, 12: 0.9},
    ),
    "sad": (
        {1: 1.0, 4: 0.4, 15: 1.0, 17: 0.5, 43: 0.7},
        {1: 1.0, 4: 0.4, 7: 0.3, 15: 1.0, 17: 0.8, 43: 0.5},
    ),
    "surprise": (
        {1: 1.0, 2: 1.0, 5: 0.8, 26: 1.0, 27: 0.4},
        {1: 1.0, 2: 1.0, 5: 0.9, 26: 1.0, 27: 0.9},
    ),
    "neutral": ({},),
}
# Faces at rest are not all alike either: up to this much of these, always.
_AT_REST = {1: 0.12, 2: 0.15, 4: 0.15, 5: 0.12, 7: 0.15, 12: 0.1, 15: 0.1, 43: 0.15}
_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 17, 20, 22, 24, 25, 26, 27, 43)


def sample_action_units(rng: np.random.Generator, emotion: str) -> ActionUnits:
    """Draws an expression: a variant, its strength, and each unit's own jitter.

    Takes equally much from `rng` for every emotion: what is drawn after is the same.

    Raises:
      ValueError: `emotion` is not one of EMOTIONS.
    """
    if emotion not in EXPRESSIONS:
        raise ValueError(f"emotion: expected one of {EMOTIONS}, found {emotion!r}")
    variants = EXPRESSIONS[emotion]
    variant = variants[int(len(variants) * rng.random())]
    strength = rng.uniform(0.7, 1.15)
    jitter = dict(zip(_UNITS, rng.random(len(_UNITS)), strict=True))
    units = {unit: most * jitter[unit] for unit, most in _AT_REST.items()}
    for unit, mean in variant.items():
        units[unit] = mean * strength * (0.8 + 0.4 * jitter[unit])
    return ActionUnits(units)


@dataclasses.dataclass(frozen=True)
class Person:
    """What stays when the expression changes: tones of 0 to 1, lengths, habits."""

    skin: float
    hair: float
    iris: float
    clothes: float
    width: float
    jaw: float  # square at 0.68, oval at 1
    chin: float
    eye_gap: float
    eye_width: float
    eye_open: float
    eye_tilt: float
    gaze: float  # to the side
    brow_height: float
    brow_arch: float
    brow_width: float
    nose_width: float
    nose_length: float
    mouth_width: float
    mouth_height: float
    lips: float
    lip_tone: float
    hairline: float
    hair_style: str  # bald, short, fringe, parted, long or scarf
    part: float  # where the hair is parted
    age: float
    lashes: bool
    beard: float  # 0 is none, 1 hides the skin
    moustache: float
    glasses: float  # width of the frame; 0 is none


def sample_person(rng: np.random.Generator) -> Person:
    """Draws a person; proportions vary by about a tenth, as people's do."""

    def around(mean, spread):
        return mean * (1 + spread * np.clip(rng.normal(), -2, 2))

    dark_hair, bearded = rng.random() < 0.7, rng.random() < 0.18
    styles = {
        "bald": 8,
        "short": 30,
        "fringe": 18,
        "parted": 22,
        "long": 17,
        "scarf": 5,
    }
    names = [name for name, percent in styles.items() for _ in range(percent)]
    style = names[rng.integers(len(names))]
    bearded = bearded and style not in ("long", "scarf")
    return Person(
        skin=rng.uniform(0.36, 0.88),
        hair=rng.uniform(0.05, 0.22) if dark_hair else rng.uniform(0.3, 0.75),
        iris=rng.uniform(0.08, 0.3),
        clothes=rng.uniform(0.08, 0.9),
        width=around(0.84, 0.05),
        jaw=rng.uniform(0.68, 0.95),
        chin=around(1.12, 0.035),
        eye_gap=around(0.365, 0.045),
        eye_width=around(0.19, 0.06),
        eye_open=around(1.0, 0.1),
        eye_tilt=rng.normal(0.012, 0.012),
        gaze=np.clip(rng.normal(0, 0.02), -0.04, 0.04),
        brow_height=around(0.27, 0.07),
        brow_arch=rng.uniform(0.015, 0.055),
        brow_width=rng.uniform(0.035, 0.065),
        nose_width=around(0.15, 0.12),
        nose_length=around(0.3, 0.07),
        mouth_width=around(0.3, 0.07),
        mouth_height=around(0.58, 0.04),
        lips=around(1.0, 0.2),
        lip_tone=rng.uniform(0.58, 0.82),
        hairline=rng.uniform(-0.98, -0.8),
        hair_style=style,
        part=rng.uniform(-0.45, 0.45),
        age=rng.random() ** 2,
        lashes=bool(rng.random() < 0.4),
        beard=rng.uniform(0.15, 0.6) if bearded else 0.0,
        moustache=rng.uniform(0.3, 0.7) if bearded and rng.random() < 0.6 else 0.0,
        glasses=rng.uniform(0.028, 0.045) if rng.random() < 0.12 else 0.0,
    )


@dataclasses.dataclass(frozen=True)
class Pose:
    """How the head stands before the camera: radians, and pixels of the 48 x 48."""

    yaw: float
    pitch: float
    roll: float
    scale: float
    center: tuple[float, float]


def sample_pose(rng: np.random.Generator) -> Pose:
    """Draws a head that a face detector would still call frontal."""
    x, y = np.clip(rng.normal(0, 1.5, 2), -3.5, 3.5)
    return Pose(
        yaw=np.clip(rng.normal(0, 0.17), -0.38, 0.38),
        pitch=np.clip(rng.normal(0, 0.08), -0.18, 0.18),
        roll=np.clip(rng.normal(0, 0.12), -0.3, 0.3),
        scale=rng.uniform(19.0, 23.5),
        center=(24 + x, 22.5 + y),
    )
