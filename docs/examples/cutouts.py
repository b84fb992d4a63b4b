"""Probabilities of faces that are cut out already, from an array.

python docs/examples/cutouts.py faces.npy probabilities.npy

faces.npy holds uint8 [N, H, W] or RGB [N, H, W, 3]; what comes out is float32
[N, classes].
"""

import sys

import numpy as np

from deepfer_jax import Predictor

source, out = sys.argv[1:]
predictor = Predictor("small")
probabilities = predictor.predict(np.load(source))
np.save(out, probabilities)
for name, share in zip(predictor.classes, probabilities.mean(0), strict=True):
    print(f"{name:<9} {share:.0%}")
