"""Brings published weights into the form that config.model.pretrained reads.

python scripts/port_weights.py --source torchvision --file resnet18.safetensors \\
    --out resnet18.port.safetensors
python scripts/port_weights.py --source dlib \\
    --file dlib_face_recognition_resnet_model_v1.dat --out dlib.port.safetensors
"""

import argparse

from deepfer_jax import errors

with errors.imports("train"):
    from deepfer_jax.pretrained import port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, choices=port.SOURCES)
    parser.add_argument("--file", required=True, help="what was published")
    parser.add_argument("--out", required=True, help="safetensors file to write")
    parser.add_argument(
        "--skip", nargs="*", default=(), help="regular expressions of tensors to ignore"
    )
    parser.add_argument("--licence", help="of the weights, if it is not known")
    args = parser.parse_args()
    metadata = port.port(args.source, args.file, args.out, args.skip, args.licence)
    for name, value in metadata.items():
        print(f"{name:<16}{value}")


if __name__ == "__main__":
    with errors.reported():
        main()
