"""Detectors by name: torchvision's, and one that is small enough to be trained on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torchvision
from torch import nn

from amc_mobile.models.detectors import adopt
from amc_mobile.models.small_detector import ssdlite_mobilenet_v3_small
from amc_mobile.sections.model import DETECTORS

_SMALL = "ssdlite_mobilenet_v3_small"
_COCO = 90  # the largest number of a class in COCO, which torchvision's published detectors answer
_SIZES = {"ssdlite320_mobilenet_v3_large": 320, "ssd300_vgg16": 300, "fasterrcnn_mobilenet_v3_large_320_fpn": 320}
_LARGE = 800  # the others scale the short side to this


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a detector is built, and for how many classes and pixels it was published."""

    build: Callable[[int, int], nn.Module]  # (classes with the background, image size)
    classes: int
    image_size: int

    def built(self, classes: int, image_size: int) -> nn.Module:
        """A new detector; `classes` leaves the background out."""
        return adopt(self.build(classes + 1, image_size), image_size)


def detector_names() -> tuple[str, ...]:
    """Every name that `detector_recipe` knows."""
    known = torchvision.models.list_models(module=torchvision.models.detection)
    return (_SMALL, *(name for name in known if name.startswith(DETECTORS)))


def detector_recipe(name: str) -> Recipe:
    """The detector of that name; nothing is downloaded."""
    if name == _SMALL:
        return Recipe(ssdlite_mobilenet_v3_small, classes=3, image_size=128)

    def build(num_classes: int, image_size: int) -> nn.Module:
        module: nn.Module = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=num_classes
        )
        return module

    return Recipe(build, _COCO, _SIZES.get(name, _LARGE))
