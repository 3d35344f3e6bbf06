from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.cost.widths import width_grid
from amc_mobile.profile.carriers import draw, smallest
from tests.profile.networks import concatenated_network, residual_network


@settings(max_examples=25)
@given(st.integers(4, 40), st.integers(0, 2**32 - 1), st.floats(0.05, 0.9), st.integers(1, 16))
def test_widths_are_on_the_grid_and_pinned_groups_whole(count, seed, min_keep_ratio, round_to):
    network = concatenated_network().network
    policies = draw(network, count, seed, min_keep_ratio, round_to)
    assert len(policies) == count
    for policy in [*policies, smallest(network, min_keep_ratio, round_to)]:
        for group, kept in zip(network.groups, policy.kept, strict=True):
            grid = width_grid(group.channels, min_keep_ratio, round_to)
            assert kept in grid if group.prunable else kept == group.channels


def test_the_seed_decides():
    network = residual_network().network
    assert draw(network, 8, 1, 0.2, 8) == draw(network, 8, 1, 0.2, 8) != draw(network, 8, 2, 0.2, 8)


def test_carriers_cover_small_and_large_networks_and_every_groups_range():
    network = residual_network().network
    ratios = np.array([policy.kept for policy in draw(network, 32, 0, 0.2, 8)]) / np.array(network.full().kept)
    ratios = ratios[:, [group.index for group in network.prunable()]]
    means = ratios.mean(axis=1)
    assert means.min() < 0.4
    assert means.max() > 0.9
    assert (ratios.min(axis=0) < 0.4).all()
    assert (ratios.max(axis=0) > 0.9).all()
    assert abs(np.median(means) - 0.65) < 0.1


def test_the_smallest_prunes_every_group_to_its_limit():
    network = residual_network().network
    policy = smallest(network, 0.5, 8)
    for group in network.prunable():
        assert policy.kept[group.index] == pytest.approx(group.channels / 2)
