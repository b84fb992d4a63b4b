"""`python -m deepfer_jax` is `deepfer`."""

from deepfer_jax.cli import main

main()
