"""Asks a running server (`deepfer demo`) for the faces of a photograph.

python docs/examples/client.py http://127.0.0.1:8000 photo.jpg
"""

import json
import pathlib
import sys
import urllib.request

address, path = sys.argv[1:]
request = urllib.request.Request(
    f"{address}/v1/analyze", pathlib.Path(path).read_bytes(), method="POST"
)
with urllib.request.urlopen(request) as response:
    answer = json.load(response)
for face in answer["faces"]:
    print(f"{face['label']} {face['probability']:.0%} at {face['box']}")
