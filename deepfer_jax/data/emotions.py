"""Names and order of the seven emotions: the one source of truth.

The order is FER2013's own and holds everywhere: labels, logits, probabilities,
confusion matrices and metadata. Other sources are mapped by name.

    >>> EMOTIONS[3]
    'happy'
    >>> EMOTIONS.index("neutral")
    6
    >>> emotion_of("4_Happiness")
    'happy'
"""

import re

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

# Other spellings, and the codes of KDEF.
_SYNONYMS = {
    "anger": "angry",
    "an": "angry",
    "disgusted": "disgust",
    "di": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "af": "fear",
    "happiness": "happy",
    "joy": "happy",
    "ha": "happy",
    "sadness": "sad",
    "sa": "sad",
    "surprised": "surprise",
    "su": "surprise",
    "neutrality": "neutral",
    "ne": "neutral",
}


def emotion_of(name: str) -> str | None:
    """The emotion that a folder or class is called after, None if it is none of ours.

    Case does not matter, nor does a number in front: `anger`, `Angry` and `0_angry` are
    `angry`.
    """
    name = plain_name(name)
    name = _SYNONYMS.get(name, name)
    return name if name in EMOTIONS else None


def plain_name(name: str) -> str:
    """In lower case, without a number in front: `7_Contempt` is `contempt`."""
    return re.sub(r"^\d+[\s_.-]+(?=\D)", "", name.strip().lower())
