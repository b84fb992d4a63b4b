"""The commands of `deepfer`: one module each, with `main(argv)`."""
