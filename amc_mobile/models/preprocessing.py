"""From a decoded picture to the numbers a network reads: size, crop, scale and normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a network wants its images: x = (pixel / 255 - mean) / std on a centred square of `crop` pixels.

    The short side is reduced to `resize` if it is longer, enlarged to `crop` if it is shorter, and left alone in
    between. With `stretch` the whole picture is squeezed into the square instead: no object leaves it. As many channels
    as `mean` has values: 3 for RGB, 1 for grey.
    """

    resize: int
    crop: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    stretch: bool = False

    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one prepared image."""
        return len(self.mean), self.crop, self.crop

    def cropped(self, picture: Image.Image) -> np.ndarray:
        """The resized and cropped pixels, uint8 (crop, crop, C)."""
        picture = picture.convert("L" if len(self.mean) == 1 else "RGB")
        width, height = picture.size
        if self.stretch:
            return self._pixels(picture.resize((self.crop, self.crop), Image.Resampling[self.interpolation.upper()]))
        short = min(width, height)
        target = self.resize if short > self.resize else max(short, self.crop)
        if target != short:
            size = round(width * target / short), round(height * target / short)
            picture = picture.resize(size, Image.Resampling[self.interpolation.upper()])
        width, height = picture.size
        left, top = (width - self.crop) // 2, (height - self.crop) // 2
        picture = picture.crop((left, top, left + self.crop, top + self.crop))
        return self._pixels(picture)

    def _pixels(self, picture: Image.Image) -> np.ndarray:
        return np.asarray(picture, dtype=np.uint8).reshape(self.crop, self.crop, len(self.mean))

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (..., H, W, C) -> float32 (..., C, H, W)."""
        numbers = np.moveaxis(pixels, -1, -3).astype(np.float32, order="C")
        numbers *= (1 / (255 * np.asarray(self.std))).astype(np.float32)[:, None, None]
        numbers -= (np.asarray(self.mean) / np.asarray(self.std)).astype(np.float32)[:, None, None]
        return numbers
