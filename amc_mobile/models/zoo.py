"""Networks by name, each with the input and the preprocessing that it was trained for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from amc_mobile.errors import ConfigError
from amc_mobile.models.cifar_resnet import CifarResNet
from amc_mobile.models.detector_names import detector_names, detector_recipe
from amc_mobile.models.detectors import adopt, is_detector, own_classes, own_size
from amc_mobile.models.digits_net import DigitsNet
from amc_mobile.models.mobilenet_v1 import MobileNetV1
from amc_mobile.models.preprocessing import Preprocessing
from amc_mobile.models.user_network import build_user_network, preprocessing_of, probe
from amc_mobile.models.vgg_small import VggSmall
from amc_mobile.models.weights import load_weights
from amc_mobile.sections.model import ModelConfig
from amc_mobile.types import TaskName

_IMAGENET = Preprocessing(resize=256, crop=224)
_CIFAR = Preprocessing(resize=32, crop=32)
_DIGITS = Preprocessing(resize=32, crop=32, mean=(0.3,), std=(0.35,))
_FASHION_MNIST = Preprocessing(resize=28, crop=28, mean=(0.2860,), std=(0.3530,))
_OF_TEN_CLASSES: dict[str, tuple[Callable[[], nn.Module], Preprocessing]] = {
    "digits": (DigitsNet, _DIGITS),
    "vgg_small": (VggSmall, _FASHION_MNIST),
    "plain20": (partial(CifarResNet, 3, residual=False), _CIFAR),
    "resnet20": (partial(CifarResNet, 3), _CIFAR),
    "resnet32": (partial(CifarResNet, 5), _CIFAR),
    "resnet44": (partial(CifarResNet, 7), _CIFAR),
    "resnet56": (partial(CifarResNet, 9), _CIFAR),
    "resnet110": (partial(CifarResNet, 18), _CIFAR),
}
_MOBILENET_V1 = re.compile(r"mobilenet_v1(?:_(\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A network that can be built: `input_shape` is (C, H, W) of one image.

    `classes` is the length of its logits, of a detector without the background.
    """

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, int, int]
    classes: int
    preprocessing: Preprocessing
    task: TaskName = "classification"


def names() -> tuple[str, ...]:
    """Every name that `find` knows, sorted. `mobilenet_v1_0.75` stands for any width."""
    own = ["mobilenet_v1", "mobilenet_v1_0.75", *_OF_TEN_CLASSES, *detector_names()]
    return tuple(sorted([*own, *torchvision.models.list_models(module=torchvision.models)]))


def entry_of(config: ModelConfig) -> ModelEntry:
    """The network that the config names, with the preprocessing that it says. Raises: ConfigError as `find`."""
    entry = find(config.name, config.classes, config.image_size)
    return replace(entry, preprocessing=preprocessing_for(entry, config))


def find(name: str, classes: int | None = None, image_size: int | None = None) -> ModelEntry:
    """The network of that name, or of the user's own `package.module:function`.

    A detector can be had for any number of classes and any size of its (square) images; None: as it was published.
    Raises: ConfigError for an unknown name (with the nearest ones) or a function that does not give a network.
    """
    if name in detector_names():
        return _detector_entry(name, classes, image_size)
    entry = _user_entry(name, image_size) if ":" in name else _classifier(name)
    for setting, value in (("classes", classes), ("image_size", image_size if entry.task != "detection" else None)):
        if value is not None:
            raise ConfigError(f"model.{setting} is for torchvision's detectors; {name} has its own")
    return entry


def _classifier(name: str) -> ModelEntry:
    if name in _OF_TEN_CLASSES:
        return _entry(name, *_OF_TEN_CLASSES[name], classes=10)
    if match := _MOBILENET_V1.fullmatch(name):
        return _mobilenet_v1(name, float(match[1] or 1))
    if name in torchvision.models.list_models(module=torchvision.models):
        return _torchvision_entry(name)
    near = difflib.get_close_matches(name, names(), n=3)
    hint = (
        f"did you mean {' or '.join(near)}?" if near else "give a torchvision name or your own package.module:function"
    )
    raise ConfigError(f"there is no network {name!r}; {hint}")


def load_module(entry: ModelEntry, weights: Path | None) -> nn.Module:
    """The network in eval mode, with the weights of a state_dict file, or (None) the same random ones every time.

    Raises: DataError if the file cannot be read or does not fit exactly.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = entry.build()
    if weights is not None:
        load_weights(module, weights, entry.name)
    return module.eval()


def preprocessing_for(entry: ModelEntry, config: ModelConfig) -> Preprocessing:
    """The network's preprocessing with the config's own mean and std, if it gives some. Raises: ConfigError."""
    channels = entry.input_shape[0]
    if entry.task == "detection" and (config.mean is not None or config.std is not None):
        raise ConfigError(f"{entry.name} normalises its images itself; leave out model.mean and model.std")
    for key, values in (("mean", config.mean), ("std", config.std)):
        if values is not None and len(values) != channels:
            raise ConfigError(f"model.{key} has {len(values)} values, but {entry.name} reads {channels} channels")
    if config.std is not None and min(config.std) <= 0:
        raise ConfigError(f"model.std must be positive, not {config.std}")
    mean = entry.preprocessing.mean if config.mean is None else tuple(config.mean)
    std = entry.preprocessing.std if config.std is None else tuple(config.std)
    return replace(entry.preprocessing, mean=mean, std=std)


def _entry(name: str, build: Callable[[], nn.Module], preprocessing: Preprocessing, classes: int) -> ModelEntry:
    return ModelEntry(name, build, preprocessing.shape(), classes, preprocessing)


def _mobilenet_v1(name: str, width: float) -> ModelEntry:
    if int(32 * width) < 1:
        raise ConfigError(f"{name}: a width of {width:g} leaves no channels; choose at least 0.04")
    return _entry(name, partial(MobileNetV1, width), _IMAGENET, classes=1000)


def _torchvision_entry(name: str) -> ModelEntry:
    """Torchvision tells the image size with its first published weights; nothing is downloaded."""
    transforms = next(iter(torchvision.models.get_model_weights(name))).transforms()
    preprocessing = Preprocessing(
        resize=transforms.resize_size[0],
        crop=transforms.crop_size[0],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation="bicubic" if transforms.interpolation.value == "bicubic" else "bilinear",
    )
    options: dict[str, bool] = {}
    if name in ("googlenet", "inception_v3"):  # as its published weights need it, without the heads for training
        options = {"aux_logits": False, "transform_input": True, "init_weights": False}
    return _entry(name, partial(torchvision.models.get_model, name, weights=None, **options), preprocessing, 1000)


def _detector_entry(name: str, classes: int | None, image_size: int | None) -> ModelEntry:
    recipe = detector_recipe(name)
    answered, size = classes or recipe.classes, image_size or recipe.image_size
    build = partial(recipe.built, answered, size)
    with torch.device("meta"):  # to see how it wants its images
        drawn = build()
    return _detects(name, build, size, answered, drawn)


def _detects(name: str, build: Callable[[], nn.Module], size: int, classes: int, module: nn.Module) -> ModelEntry:
    """A detector's images are squeezed into its square and normalised as it does itself."""
    transform: Any = module.transform
    mean, std = (tuple(float(value) for value in values) for values in (transform.image_mean, transform.image_std))
    preprocessing = Preprocessing(resize=size, crop=size, mean=mean, std=std, stretch=True)
    return ModelEntry(name, build, preprocessing.shape(), classes, preprocessing, "detection")


def _user_entry(name: str, image_size: int | None = None) -> ModelEntry:
    build = partial(build_user_network, name)
    module = build()
    if is_detector(module):
        size = image_size or own_size(module)
        return _detects(name, lambda: adopt(build(), size), size, own_classes(module), module)
    preprocessing, shape = preprocessing_of(module, name)
    return ModelEntry(name, build, shape, probe(module, shape, name), preprocessing)
