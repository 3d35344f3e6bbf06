"""The imitation loss against its formula written out."""

from __future__ import annotations

import pytest
import torch

from amc_mobile.train.losses import imitation


def test_it_is_the_divergence_of_the_softened_answers():
    torch.manual_seed(0)
    logits, answer = torch.randn(5, 4), torch.randn(5, 4)
    mine, theirs = (torch.softmax(values / 3.0, 1) for values in (logits, answer))
    expected = 9.0 * (theirs * (theirs / mine).log()).sum(1).mean()
    assert float(imitation(logits, answer, 3.0)) == pytest.approx(float(expected), rel=1e-5)
    assert float(imitation(answer, answer, 3.0)) == pytest.approx(0.0, abs=1e-6)
