"""What light and a camera do to a drawn face: shading, contrast, blur, noise.

    image = expose(rng, canvas.reduced(), person, pose, units)   # uint8 [48, 48]

Everything soft is computed here, on the small grid; the head is taken for an ellipsoid.
"""

import numpy as np
from PIL import Image, ImageFilter

from deepfer_jax.data.synthetic.canvas import SIZE, project
from deepfer_jax.data.synthetic.drawing import EYE_Y, jaw_drop
from deepfer_jax.data.synthetic.sampling import ActionUnits, Person, Pose

_ROW, _COLUMN = np.mgrid[:SIZE, :SIZE].astype(np.float32) + 0.5


def expose(
    rng: np.random.Generator,
    drawing: np.ndarray,
    person: Person,
    pose: Pose,
    units: ActionUnits,
) -> np.ndarray:
    """Returns the photograph, uint8 [48, 48], of a drawing, float [48, 48], 0 to 1."""
    image = drawing * _soft_relief(person, pose, units) * _sphere_light(rng, pose)
    image = image * (1 + 0.12 * _ramp(rng))
    image = _occlude(rng, image, pose)
    # Exposure: a camera sets mean and contrast within limits.
    image = (image - image.mean()) / (image.std() + 0.05)
    image = rng.uniform(95, 155) + rng.uniform(36, 58) * image
    image = np.clip(image, 0, 255).astype(np.uint8)
    blur = ImageFilter.GaussianBlur(rng.uniform(0.2, 0.75))
    image = np.asarray(Image.fromarray(image).filter(blur), np.float32)
    image = image + rng.normal(0, rng.uniform(1, 4.5), image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _soft_relief(person: Person, pose: Pose, units: ActionUnits) -> np.ndarray:
    """Bumps and hollows of the face: a factor of about 1, float [48, 48]."""
    cheek = units[12] + 0.5 * units[6]
    frown = units[4]
    mouth = person.mouth_height
    drop = jaw_drop(units)
    gap = person.eye_gap
    # The nose's tip comes first.
    blobs = [(0.0, person.nose_length - 0.08, 0.08, 0.08, 0.16)]
    blobs += [(0, person.nose_length + 0.07, 0.14, 0.05, -0.1)]
    blobs += [(0, mouth + 0.19 + drop, 0.2, 0.05, -0.16)]  # under the lower lip
    blobs += [(0, mouth + 0.36 + drop, 0.16, 0.12, 0.07), (0, -0.68, 0.4, 0.2, 0.06)]
    blobs += [(0, EYE_Y - 0.16, 0.08, 0.12, -0.12 * frown)]
    for side in (-1, 1):
        blobs += [(side * gap, EYE_Y - 0.06, 0.22, 0.12, -0.12)]
        blobs += [(side * (gap - 0.16), EYE_Y - 0.06, 0.07, 0.1, -0.14 - 0.08 * frown)]
        blobs += [(side * 0.48, 0.2 - 0.03 * cheek, 0.18, 0.13, 0.07 + 0.1 * cheek)]
        blobs += [(side * 0.56, 0.5, 0.13, 0.2, -0.08)]
    x, y, width, height, amount = np.array(blobs, np.float32).T
    centers = project(pose, x, y).astype(np.float32)
    width, height = width * pose.scale, height * pose.scale
    right = (_COLUMN[0] - centers[:, :1]) / width[:, None]
    down = (_ROW[:, 0] - centers[:, 1:]) / height[:, None]
    # Rolls are small, so that axis-aligned bumps do: a sum of outer products.
    return 1 + (amount[:, None] * np.exp(-(down**2))).T @ np.exp(-(right**2))


def _sphere_light(rng: np.random.Generator, pose: Pose) -> np.ndarray:
    """Diffuse light from one side on an ellipsoid: a factor, float [48, 48]."""
    right, down = _COLUMN - pose.center[0], _ROW - pose.center[1]
    cos, sin = np.cos(pose.roll) / pose.scale, np.sin(pose.roll) / pose.scale
    x, y = cos * right + sin * down, (cos * down - sin * right) / 1.4
    z = np.sqrt(np.maximum(1.05 - x**2 - y**2, 0.04))
    light = np.array([rng.normal(0, 0.5), rng.uniform(-0.6, 0.15), 1.0])
    light /= np.linalg.norm(light)
    direct = np.maximum(light[0] * x + light[1] * y + light[2] * z, 0)
    ambient = rng.uniform(0.35, 0.7)
    on_face = np.clip(6 * (1.03 - np.hypot(x, y)), 0, 1)
    return 1 + on_face * (ambient + (1 - ambient) * direct - 0.9)


def _ramp(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return (np.cos(angle) * (_COLUMN - 24) + np.sin(angle) * (_ROW - 24)) / 24


def _occlude(rng: np.random.Generator, image: np.ndarray, pose: Pose) -> np.ndarray:
    """Now and then something (a shoulder, a lock of hair) covers the image's edge."""
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(13, 17)
    tone, hidden = rng.uniform(0.1, 0.8), rng.random() < 0.12
    if not hidden:
        return image
    away = np.cos(angle) * (_COLUMN - 24) + np.sin(angle) * (_ROW - 24)
    cover = np.clip(away - reach - 4 * abs(np.sin(angle)), 0, 1)
    return image + cover * (tone - image)
