"""Images set aside are the same for the same seed and train nothing; the judge keeps the first of the best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.errors import ConfigError
from amc_mobile.train.validation import Judge, set_aside


@given(st.integers(2, 60), st.integers(0, 59), st.integers(0, 5))
def test_the_parts_are_disjoint_and_whole(count, validation, seed):
    validation = min(validation, count - 1)
    trained, judged = set_aside(count, validation, seed)
    assert len(judged) == validation
    assert sorted([*trained, *judged]) == list(range(count))
    assert all(
        np.array_equal(*pair) for pair in zip((trained, judged), set_aside(count, validation, seed), strict=True)
    )


def test_another_seed_sets_others_aside():
    assert not np.array_equal(set_aside(50, 20, 0)[1], set_aside(50, 20, 1)[1])


def test_nothing_left_to_train_on_is_said():
    with pytest.raises(ConfigError, match="validation_images = 8 leaves none of the 8 training images"):
        set_aside(8, 8, 0)


def test_the_judge():
    judge = Judge(patience=2)
    heard = [
        (judge.improved(epoch, accuracy), judge.impatient) for epoch, accuracy in enumerate((0.5, 0.7, 0.7, 0.6), 1)
    ]
    assert heard == [(True, False), (True, False), (False, False), (False, True)]
    assert (judge.best_epoch, judge.best_accuracy) == (2, 0.7)
    assert not Judge(patience=None, epochs_since=99).impatient
