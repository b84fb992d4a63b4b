"""Serves the demo: `python -m deepfer_jax.demo`, then open http://127.0.0.1:8000."""

import argparse
import logging
import sys
import warnings

import numpy as np

from deepfer_jax.inference import DEFAULT_MODEL, ModelError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deepfer_jax.demo")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="an exported model")
    parser.add_argument("--host", default="127.0.0.1", help="whom to listen to")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--no-cache", action="store_true", help="keep nothing that is compiled"
    )
    args = parser.parse_args()
    try:
        import uvicorn
        from PIL import Image

        from deepfer_jax.demo.server import MAX_BYTES, create_app
    except ImportError as error:
        sys.exit(f'error: {error}: pip install "deepfer_jax[demo]"')
    from deepfer_jax.faces.analyzer import Analyzer

    # Pillow warns of images that the server refuses by its own count of pixels.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("deepfer_jax").setLevel(logging.INFO)
    try:
        analyzer = Analyzer(args.model, cache=not args.no_cache)
    except ModelError as error:
        sys.exit(f"error: {error}")
    # A camera's first frame need not wait for the compiler.
    analyzer.analyze(np.zeros((480, 640, 3), np.uint8))
    print(f"open http://{args.host}:{args.port} (Ctrl-C to stop)", flush=True)
    uvicorn.run(
        create_app(analyzer),
        host=args.host,
        port=args.port,
        log_level="warning",
        ws_max_size=4 * MAX_BYTES,
        ws_max_queue=4,
    )


if __name__ == "__main__":
    main()
