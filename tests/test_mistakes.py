"""What users do wrong ends in one line that says so, in every script."""

from deepfer_jax.inference import DEFAULT_MODEL


def test_mistakes_end_in_one_line(run_python, tmp_path, small_data_dir):
    def expect(message, script, *arguments):
        result = run_python(f"scripts/{script}.py", *arguments, check=False)
        assert result.returncode == 1
        assert message in result.stderr
        assert "Traceback" not in result.stderr

    expect("metadata.json is missing", "predict", "--model", tmp_path, "x.png")
    expect("config.json is missing", "export", "--workdir", tmp_path, "--out", "x")
    expect("is no exported model", "export", "--model", tmp_path, "--out", "x")
    expect(
        "scripts/prepare_data.py --dataset fer2013",
        *("evaluate", "--model", DEFAULT_MODEL, "--dataset", "fer2013"),
        *("--split", "public_test", "--data_dir", small_data_dir),
    )
