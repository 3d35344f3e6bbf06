"""Augmented images are moved or mirrored ones, and shares of a batch are changed as in the whole batch."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from amc_mobile.train.augment import augmented, draw


@given(st.integers(0, 3), st.booleans(), st.integers(0, 9))
def test_augmented_images_are_moved_or_mirrored_ones(shift, flip, seed):
    images = torch.arange(2 * 36, dtype=torch.float32).reshape(2, 1, 6, 6)
    answer = augmented(images, draw(2, shift, flip, torch.Generator().manual_seed(seed)))
    padded = nn.functional.pad(images, [shift] * 4, mode="replicate")
    size = range(2 * shift + 1)
    for index in range(2):
        moved = [padded[index, :, top : top + 6, left : left + 6] for top in size for left in size]
        choices = moved + [choice.flip(-1) for choice in moved if flip]
        assert any(torch.equal(answer[index], choice) for choice in choices)


def test_every_place_is_drawn():
    changes = draw(400, 2, True, torch.Generator().manual_seed(0))
    assert {tuple(corner) for corner in changes.corners.tolist()} == {
        (top, left) for top in range(5) for left in range(5)
    }
    assert 150 < int(changes.mirrored.sum()) < 250


@given(st.integers(1, 3), st.booleans())
def test_a_share_of_a_batch_is_changed_as_in_the_whole(size, flip):
    images = torch.rand(7, 3, 6, 6)
    changes = draw(7, 2, flip, torch.Generator().manual_seed(1))
    whole = augmented(images, changes)
    for rank in range(size):
        places = slice(rank, None, size)
        assert torch.equal(augmented(images[places], changes.share(places)), whole[places])
