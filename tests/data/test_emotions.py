"""data.emotions: the many names of seven classes."""

import pytest

from deepfer_jax.data.emotions import emotion_of


@pytest.mark.parametrize(
    ("name", "emotion"),
    [
        ("Anger", "angry"),
        ("HAPPINESS", "happy"),
        ("0_angry", "angry"),
        ("3-surprised", "surprise"),
        ("AF", "fear"),
        ("NE", "neutral"),
        ("fearful", "fear"),
        ("contempt", None),
        ("7", None),
        ("7_", None),
        ("7_Contempt", None),
        ("angry_birds", None),
    ],
)
def test_names_of_classes(name, emotion):
    assert emotion_of(name) == emotion
