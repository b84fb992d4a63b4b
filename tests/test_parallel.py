"""parallel: compiler options reach XLA, and one that it does not know is left out."""

import logging
import platform

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax import parallel


def test_unknown_options_are_left_out_and_said(caplog):
    options = {"xla_cpu_no_such_option": True, "xla_cpu_enable_fast_math": False}
    with caplog.at_level(logging.WARNING):
        known = parallel.known_compiler_options(options)
    assert known == {"xla_cpu_enable_fast_math": False}
    (record,) = caplog.records
    assert "does without" in record.getMessage()
    assert "xla_cpu_no_such_option" in record.getMessage()
    jax.jit(lambda x: x, compiler_options=known)(1.0)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the CPU's kernels")
def test_single_convolutions_do_not_go_to_ynnpack(monkeypatch):
    """What compiles them differs from jax's default, for training and evaluation."""
    programs = []
    compile_ = jax.stages.Lowered.compile

    def record(self, *args, **kwargs):
        programs.append(compile_(self, *args, **kwargs))
        return programs[-1]

    monkeypatch.setattr(jax.stages.Lowered, "compile", record)

    def convolve(kernel, images):
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    kernel = jnp.ones((3, 3, 32, 32))
    images = jnp.ones((parallel.num_devices(), 4, 24, 24, 32))
    evaluate = parallel.pmap_eval(
        lambda kernel, images: (
            jax.lax.psum(kernel, parallel.AXIS),
            convolve(kernel, images),
        )
    )
    train = parallel.pmap_train(
        lambda state, kernel, images: (
            state + 1,
            jax.lax.pmean(convolve(kernel, images), parallel.AXIS),
        )
    )
    evaluate(kernel, images)
    train(parallel.replicate(jnp.zeros(())), kernel, images)
    plain = jax.jit(convolve).lower(kernel, images[0]).compile()
    assert "ynn_fusion" in plain.as_text()
    texts = [p.as_text() for p in programs if "convolution(" in p.as_text()]
    assert len(texts) == 3
    assert ["ynn_fusion" in text for text in texts] == [False, False, True]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_is_kept_is_not_fetched_again(run_python):
    program = (
        "import resource\n"
        "import numpy as np\n"
        "from deepfer_jax import parallel\n"
        "def count_faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(10):\n"
        "        np.ones(2**26, np.uint8)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "usual = count_faults()\n"
        "parallel.keep_memory()\n"
        "count_faults()\n"
        "assert count_faults() < usual / 10\n"
    )
    run_python("-c", program)


def test_a_program_is_compiled_once_for_each_shape():
    traces = []

    def add(state, resident, inputs):
        traces.append(inputs.shape)
        return state + resident, jax.lax.psum(inputs.sum(), parallel.AXIS)

    step = parallel.pmap_train(add)
    state = parallel.replicate(jnp.zeros(()))
    devices = parallel.num_devices()
    for size in (3, 3, 5, 5):
        inputs = parallel.shard(np.ones((devices, size), np.float32))
        state, total = step(state, parallel.replicate(jnp.ones(())), inputs)
        assert float(total) == devices * size
    assert float(state) == 4
    assert traces == [(3,), (5,)]
