"""From frames to faces: detection, cropping, emotions, tracks."""
