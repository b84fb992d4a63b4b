"""measuring.scaling: by hand."""

import pytest
from measuring.scaling import estimate


def test_one_host_and_two():
    one = estimate(8, 12.5e9, 94.1e6)
    assert one.compute == pytest.approx(5.138e-3, rel=1e-3)
    assert one.gradients == pytest.approx(1.75 * 94.1e6 / 300e9)
    assert one.statistics == pytest.approx(2.12e-3)
    assert one.efficiency == pytest.approx(5.138 / (5.138 + 0.549 + 2.12), rel=1e-3)
    two = estimate(16, 12.5e9, 94.1e6)
    assert two.gradients - one.gradients == pytest.approx(94.1e6 / 12.5e9)
    assert two.statistics == pytest.approx(5.3e-3)
    assert two.faces_per_second == pytest.approx(64 / sum(two))
