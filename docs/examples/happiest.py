"""The happiest face of a folder of photographs, cut out.

python docs/examples/happiest.py photos happiest.png
"""

import sys

from PIL import Image

import deepfer_jax

folder, out = sys.argv[1:]
faces = [
    (dict(zip(photo.classes, face.probabilities, strict=True))["happy"], photo, face)
    for photo in deepfer_jax.read(folder)
    for face in photo
]
if not faces:
    sys.exit(f"{folder}: no face")
probability, photo, face = max(faces, key=lambda item: item[0])
Image.open(photo.source).convert("RGB").crop(tuple(face.box)).save(out)
print(f"{photo.source}: happy {probability:.0%}")
