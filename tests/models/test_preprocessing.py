"""Sizes, crops and numbers of prepared images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from amc_mobile.models.preprocessing import Preprocessing

IMAGENET = Preprocessing(resize=256, crop=224)


def noise(height, width, channels=3):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


@settings(max_examples=30)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([1, 3]), st.sampled_from([1, 3]))
def test_any_picture_becomes_the_right_shape(height, width, channels, wanted):
    preprocessing = Preprocessing(resize=20, crop=16, mean=(0.5,) * wanted, std=(0.5,) * wanted)
    pixels = preprocessing.cropped(Image.fromarray(noise(height, width, channels)))
    assert pixels.shape == (16, 16, wanted)
    assert preprocessing.normalised(pixels).shape == preprocessing.shape()


@pytest.mark.parametrize(("height", "width"), [(227, 227), (256, 300), (224, 224)])
def test_between_crop_and_resize_pixels_are_left_alone(height, width):
    pixels = noise(height, width)
    top, left = (height - 224) // 2, (width - 224) // 2
    expected = pixels[top : top + 224, left : left + 224]
    np.testing.assert_array_equal(IMAGENET.cropped(Image.fromarray(pixels)), expected)


def test_a_large_picture_is_reduced_first():
    pixels = np.zeros((512, 1024, 3), np.uint8)
    pixels[:, 512:] = 200  # the border between the halves stays in the middle of the crop
    cropped = IMAGENET.cropped(Image.fromarray(pixels))
    assert cropped[:, :111].max() == 0
    assert cropped[:, 113:].min() == 200


def test_a_small_picture_is_enlarged_to_the_crop():
    digits = Preprocessing(resize=32, crop=32, mean=(0.0,), std=(1.0,))
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:4] = 255
    enlarged = digits.cropped(Image.fromarray(pixels))[..., 0]
    assert enlarged[:14].min() == 255
    assert enlarged[18:].max() == 0


def test_grey_pictures_are_repeated_and_coloured_ones_made_grey():
    grey = Image.fromarray(noise(32, 32, 1))
    coloured = Preprocessing(resize=32, crop=32).cropped(grey)
    assert (coloured == coloured[..., :1]).all()
    red = Image.new("RGB", (32, 32), (255, 0, 0))
    assert Preprocessing(32, 32, (0.0,), (1.0,)).cropped(red)[0, 0, 0] == 76  # ITU-R 601 luma


def test_pixels_are_scaled_and_normalised():
    preprocessing = Preprocessing(2, 2, mean=(0.5, 0.0, 0.25), std=(0.5, 1.0, 0.125))
    pixels = np.asarray([[[0, 255, 51], [255, 0, 255]]] * 2, np.uint8)
    expected = np.moveaxis((pixels / 255 - [0.5, 0.0, 0.25]) / [0.5, 1.0, 0.125], -1, 0)
    answer = preprocessing.normalised(pixels)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)
