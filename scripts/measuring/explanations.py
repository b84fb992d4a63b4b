"""Whether heat maps tell where a class is seen: what their highest tenth is worth.

    rows = measure_explanations(trained, builder, "public_test", 500)

The tenth of a face's pixels that is highest in its map gets the face's mean; how far
the probability of the class that the network read falls is compared with that of a
random tenth: single pixels, and pixels as connected as those of a map (a map of another
face, moved anywhere).
"""

from typing import Any

import jax
import numpy as np

from deepfer_jax.evaluation.evaluate import open_split
from deepfer_jax.evaluation.explain import delete_highest, make_grad_cam
from deepfer_jax.evaluation.predict import make_predict
from deepfer_jax.models.preprocess import to_unit
from deepfer_jax.occlusion import occlusion_map
from deepfer_jax.runs.trained import TrainedModel


def measure_explanations(
    trained: TrainedModel, builder: Any, split: str, num: int
) -> dict[str, Any]:
    """Deletes tenths of the first `num` faces of a split.

    Returns:
      {dataset, split, n, probability: mean of the class that is read, falls: {name of
      what was deleted: mean fall of that probability}, agreement: mean correlation of
      Grad-CAM's maps with the occlusion maps}.
    """

    pipeline = open_split(builder, split, trained.classes)
    images = next(iter(pipeline.in_order(num)))["image"]
    network = make_predict(trained.model_config, trained.classes, trained.temperature)
    compiled = jax.jit(lambda faces: network(trained.variables, to_unit(faces)))

    def predict(faces):
        return np.asarray(compiled(faces))

    probabilities = predict(images)
    label = probabilities.argmax(1)
    explain = make_grad_cam(trained.model_config, trained.classes)
    grad_cam = explain(trained.variables, images, label)
    occlusion = np.stack(
        [occlusion_map(predict, *pair) for pair in zip(images, label, strict=True)]
    )
    rng = np.random.default_rng(0)
    maps = {
        "grad_cam": grad_cam,
        "occlusion": occlusion,
        "random_pixels": rng.random(grad_cam.shape),
        "moved_grad_cam": _move(rng, grad_cam),
        "moved_occlusion": _move(rng, occlusion),
    }
    index = np.arange(len(images))
    before = probabilities[index, label]
    falls = {}
    for name, heat in maps.items():
        after = predict(delete_highest(images, heat))[index, label]
        falls[name] = float((before - after).mean())
    pairs = zip(grad_cam, occlusion, strict=True)
    agreement = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]
    return {
        "dataset": builder.info.full_name,
        "split": split,
        "n": len(images),
        "probability": float(before.mean()),
        "falls": falls,
        "agreement": float(np.nanmean(agreement)),
    }


def _move(rng: np.random.Generator, maps: np.ndarray) -> np.ndarray:
    """Each map is another face's, moved along both axes, round the edges."""
    moved = maps[rng.permutation(len(maps))]
    shifts = rng.integers(0, maps.shape[1:], (len(maps), 2))
    pairs = zip(moved, shifts, strict=True)
    return np.stack([np.roll(heat, shift, (0, 1)) for heat, shift in pairs])
