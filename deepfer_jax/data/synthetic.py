import tensorflow_datasets as tfds


class SyntheticFaces(tfds.core.GeneratorBasedBuilder):
    name = "synthetic_faces"
    VERSION = tfds.core.Version("1.0.0")
