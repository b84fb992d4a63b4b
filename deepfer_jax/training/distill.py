"""Distillation: trained networks whose probabilities a student is taught.

    teacher = load_teacher(config.distill, train_data.classes)
    targets = teacher.predict(teacher.variables, images)        # inside the jitted step

Teacher and student see the same augmented and mixed view of a face, each through its
own preprocessing (Beyer et al. 2021, arXiv:2106.05237). The loss with temperature T is
Hinton et al.'s (2015, arXiv:1503.02531): T^2 times the cross entropy between teacher
and student, both softened by T, beside the one with the labels.

A fixed teacher (theirs too) is asked once about each face instead:

    train_data.replace_targets(ask_once(teacher, train_data, config.distill.weight))

A student of a tenth of its teacher's work then trains at its own speed.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from deepfer_jax.data.split import Split
from deepfer_jax.errors import UserError
from deepfer_jax.evaluation.predict import make_predict
from deepfer_jax.models.preprocess import to_unit
from deepfer_jax.runs.trained import load_trained

_ASK_BATCH = 256


class Teacher(NamedTuple):
    """One network, or several whose softened probabilities are averaged.

    Attributes:
      predict: (variables, images float32 [b, H, W, C] in [0, 1]) -> float32
        [b, classes], rows that sum to 1.
      variables: of each network.
    """

    predict: Callable[[Any, jax.Array], jax.Array]
    variables: tuple[Any, ...]


def load_teacher(distill: ConfigDict, classes: Sequence[str]) -> Teacher | None:
    """Opens the networks of `config.distill.teachers`; None where there are none.

    Args:
      distill: `config.distill`.
      classes: of the student.

    Raises:
      UserError: a folder holds no network, or one of other classes.
    """
    if not distill.teachers:
        return None
    teachers = [load_trained(folder) for folder in distill.teachers]
    for folder, trained in zip(distill.teachers, teachers, strict=True):
        if trained.classes != tuple(classes):
            raise UserError(
                f"config.distill.teachers: {folder} was trained on the classes "
                f"{', '.join(trained.classes)}, but this data set has "
                f"{', '.join(classes)}"
            )
    predicts = [
        make_predict(trained.model_config, trained.classes, distill.temperature)
        for trained in teachers
    ]

    def predict(variables, images):
        each = zip(predicts, variables, strict=True)
        return sum(p(v, images) for p, v in each) / len(predicts)

    return Teacher(predict, tuple(trained.variables for trained in teachers))


def ask_once(teacher: Teacher, faces: Split, weight: float) -> np.ndarray:
    """Targets made of what the teachers say of each face, and of its label.

    Args:
      teacher: who reads each face as it is and mirrored; both are averaged.
      faces: of the classes of `teacher`.
      weight: share of the teachers, in [0, 1].

    Returns:
      float32 [num_examples, classes], rows that sum to 1.
    """

    @jax.jit
    def ask(variables, images):
        views = to_unit(images), to_unit(images[:, :, ::-1])
        return sum(teacher.predict(variables, view) for view in views) / len(views)

    targets = []
    for batch in faces.in_order(_ASK_BATCH):
        labels = batch.get("target", np.eye(len(faces.classes))[batch["label"]])
        taught = ask(teacher.variables, batch["image"])
        targets.append((1 - weight) * labels + weight * np.asarray(taught))
    return np.concatenate(targets).astype(np.float32)
