"""Names and order of the seven emotions: the one source of truth.

The order is FER2013's own and holds everywhere: labels, logits, probabilities,
confusion matrices and metadata. Other sources are mapped by name.

    >>> EMOTIONS[3]
    'happy'
    >>> EMOTIONS.index("neutral")
    6
"""

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
