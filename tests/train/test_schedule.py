"""The learning rate rises, then falls to nearly nothing."""

from __future__ import annotations

import pytest

from amc_mobile.train.schedule import rate


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.2, 0.9])
def test_the_learning_rate_rises_and_falls(warmup):
    values = [rate(step / 200, warmup) for step in range(200)]
    peak = values.index(max(values))
    assert peak == round(200 * warmup)
    assert values[peak] == 1
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert 0 < values[-1] < 0.01


def test_golden_values():
    assert rate(0.0, 0.5) == pytest.approx(0.1)
    assert rate(0.25, 0.5) == pytest.approx(0.55)
    assert rate(0.75, 0.5) == pytest.approx(0.5)
