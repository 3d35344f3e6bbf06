"""Networks by name, each with the input and the preprocessing that it was trained for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import nn

from amc_mobile.config import ModelConfig
from amc_mobile.errors import ConfigError
from amc_mobile.models.cifar_resnet import CifarResNet
from amc_mobile.models.digits_net import DigitsNet
from amc_mobile.models.mobilenet_v1 import MobileNetV1
from amc_mobile.models.preprocessing import Preprocessing
from amc_mobile.models.user_network import build_user_network, preprocessing_of, probe
from amc_mobile.models.vgg_small import VggSmall
from amc_mobile.models.weights import load_weights

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
    """A network that can be built: `input_shape` is (C, H, W) of one image, `classes` the length of its logits."""

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, int, int]
    classes: int
    preprocessing: Preprocessing


def names() -> tuple[str, ...]:
    """Every name that `find` knows, sorted. `mobilenet_v1_0.75` stands for any width."""
    own = ["mobilenet_v1", "mobilenet_v1_0.75", *_OF_TEN_CLASSES]
    return tuple(sorted([*own, *torchvision.models.list_models(module=torchvision.models)]))


def find(name: str) -> ModelEntry:
    """The network of that name, or of the user's own `package.module:function`.

    Raises: ConfigError for an unknown name (with the nearest ones) or a function that does not give a network.
    """
    if ":" in name:
        return _user_entry(name)
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


def _user_entry(name: str) -> ModelEntry:
    build = partial(build_user_network, name)
    module = build()
    preprocessing, shape = preprocessing_of(module, name)
    return ModelEntry(name, build, shape, probe(module, shape, name), preprocessing)
