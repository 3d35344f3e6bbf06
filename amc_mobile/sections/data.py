"""[data]: the images, of a run and of a transfer."""

from __future__ import annotations

from pydantic import Field

from amc_mobile.sections.section import Section


class DataConfig(Section):
    """Which images, and how many of them for what. The search never sees the test images."""

    name: str = Field(
        "digits",
        description="'digits', 'cifar10:DIR', 'imagefolder:DIR', or a .npz / .zip file; for detection 'shapes', "
        "'coco:DIR', 'voc:DIR'",
    )
    test: str | None = Field(None, description="a second source whose images are used for testing only")
    search_images: int = Field(500, ge=1, description="labelled images that score every episode")
    calibration_images: int = Field(300, ge=1, description="images for the least-squares repair (paper: 300-3000)")
    test_images: int | None = Field(None, ge=1, description="none: all that are left for testing")
    train_images: int | None = Field(None, ge=0, description="none: all the rest")


class TransferDataConfig(Section):
    """Other images than those of the run, with classes of their own."""

    name: str = Field(description="'digits', 'cifar10:DIR', 'imagefolder:DIR', or a .npz / .zip file")
    test: str | None = Field(None, description="a second source whose images are used for testing only")
    train_images: int | None = Field(None, ge=1, description="none: all that are not for testing")
    test_images: int | None = Field(None, ge=1, description="none: those that the source sets aside, or a fourth")
