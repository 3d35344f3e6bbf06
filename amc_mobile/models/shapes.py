"""Pictures of coloured shapes, drawn from a seed: a set to show detection on, as small as the digits are.

Circles, squares and triangles of many sizes and colours, turned and a little hidden by each other, stand on noisy
ground. Every picture follows from its index alone, so that nothing is stored and nothing downloaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from amc_mobile.models.objects import Objects, as_labels
from amc_mobile.models.pictures import ArrayPictures
from amc_mobile.models.preprocessing import Preprocessing
from amc_mobile.models.readers import Source

CLASSES = ("circle", "square", "triangle")

_IMAGES = 2400
_SIDE = 128  # pixels
_SEED = 6
_MOST = 4  # shapes in a picture
_SMALLEST, _LARGEST = 0.25, 0.55  # of the side: the diameter of a shape's circle
_OVERLAP = 0.15  # of the smaller of two boxes
_TRIES = 20
_CONTRAST = 60  # of a shape's colour against the ground's mean, summed over the channels
_SMOOTH = 2  # drawn so much larger, then reduced

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Shape:
    """One shape: its centre, its radius and its box in pixels."""

    kind: int
    centre: tuple[float, float]
    radius: float
    turn: float  # radians
    colour: tuple[int, int, int]

    def corners(self) -> list[tuple[float, float]]:
        """Of a square or a triangle."""
        count = 4 if CLASSES[self.kind] == "square" else 3
        angles = [self.turn + 2 * math.pi * corner / count for corner in range(count)]
        x, y = self.centre
        return [(x + self.radius * math.cos(angle), y + self.radius * math.sin(angle)) for angle in angles]

    def box(self) -> Box:
        """What it covers."""
        x, y = self.centre
        if CLASSES[self.kind] == "circle":
            return x - self.radius, y - self.radius, x + self.radius, y + self.radius
        across, down = zip(*self.corners(), strict=True)
        return min(across), min(down), max(across), max(down)


@dataclass(frozen=True, slots=True)
class ShapePictures:
    """The pictures, drawn when they are asked for."""

    def __len__(self) -> int:
        return _IMAGES

    def pixels(self, indices: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """See Pictures."""
        drawn = np.stack([_drawn(int(index)) for index in indices])
        return ArrayPictures(drawn).pixels(np.arange(len(drawn)), preprocessing)


def read_shapes() -> Source:
    """2400 pictures of 128x128 pixels with one to four shapes each."""
    side = float(_SIDE)
    found = []
    for index in range(_IMAGES):
        shapes = _shapes(np.random.default_rng([_SEED, index]))
        boxes = [[edge / side for edge in shape.box()] for shape in shapes]
        found.append(Objects.of(boxes, [shape.kind for shape in shapes]))
    return Source(ShapePictures(), as_labels(found), classes=len(CLASSES), class_names=CLASSES)


def _shapes(rng: np.random.Generator) -> list[_Shape]:
    """The shapes of one picture; those that find no room are left out."""
    placed: list[_Shape] = []
    for _ in range(int(rng.integers(1, _MOST + 1))):
        for _ in range(_TRIES):
            radius = _SIDE * rng.uniform(_SMALLEST, _LARGEST) / 2
            x, y = rng.uniform(radius, _SIDE - radius, 2)
            red, green, blue = (int(level) for level in rng.integers(0, 256, 3))
            kind, turn = int(rng.integers(len(CLASSES))), rng.uniform(0, 2 * math.pi)
            new = _Shape(kind, (x, y), radius, turn, (red, green, blue))
            if all(_overlap(new.box(), other.box()) <= _OVERLAP for other in placed):
                placed.append(new)
                break
    return placed


def _overlap(one: Box, other: Box) -> float:
    """What two boxes share, of the smaller one."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return max(width, 0.0) * max(height, 0.0) / min(areas)


def _drawn(index: int) -> NDArray[np.uint8]:
    """uint8 (H, W, 3)."""
    shapes = _shapes(np.random.default_rng([_SEED, index]))
    rng = np.random.default_rng([_SEED, index, 1])
    ground = _ground(rng)
    canvas = Image.fromarray(ground).resize((_SIDE * _SMOOTH,) * 2, Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(canvas)
    for shape in shapes:
        colour = _apart(shape.colour, ground.reshape(-1, 3).mean(axis=0))
        if CLASSES[shape.kind] == "circle":
            pen.ellipse([_SMOOTH * edge for edge in shape.box()], fill=colour)
        else:
            pen.polygon([(_SMOOTH * x, _SMOOTH * y) for x, y in shape.corners()], fill=colour)
    small = np.asarray(canvas.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
    noise = rng.normal(0.0, rng.uniform(2.0, 14.0), small.shape)
    return np.clip(small + noise, 0, 255).astype(np.uint8)


def _ground(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A texture: a few random colours, blurred by enlarging them."""
    cells = int(rng.integers(3, 17))
    mean, spread = rng.uniform(40, 215, 3), rng.uniform(10, 45)
    texture = np.clip(rng.normal(mean, spread, (cells, cells, 3)), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(texture).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))


def _apart(colour: tuple[int, int, int], mean: NDArray[np.float64]) -> tuple[int, int, int]:
    """The colour, or its negative where it would hardly be seen."""
    if np.abs(np.asarray(colour) - mean).sum() >= _CONTRAST:
        return colour
    return (255 - colour[0], 255 - colour[1], 255 - colour[2]) if abs(mean.mean() - 128) > 20 else (250, 250, 250)
