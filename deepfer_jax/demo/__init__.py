"""A page in the browser that reads emotions from a camera, a picture or a video."""
