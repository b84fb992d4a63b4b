"""How long each expression is seen in a video, by face.

python docs/examples/moods.py party.mp4
"""

import collections
import sys

from deepfer_jax import Analyzer, Tracker
from deepfer_jax.faces.video import follow, open_frames

analyzer = Analyzer()
tracker = Tracker(analyzer.classes, analyzer.threshold)
seconds = collections.defaultdict(collections.Counter)
with open_frames(sys.argv[1]) as frames:
    for moment in follow(analyzer, frames, tracker):
        for face in moment.faces:
            label = "unsure" if face.unsure else face.label
            seconds[face.track][label] += 1 / frames.rate
for track, labels in sorted(seconds.items()):
    said = ", ".join(f"{label} {time:.1f} s" for label, time in labels.most_common())
    print(f"face {track}: {said}")
