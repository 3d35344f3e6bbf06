"""The user's own network: what `package.module:function` gives, and how it wants its images."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amc_mobile.errors import ConfigError
from amc_mobile.models.preprocessing import Preprocessing


def build_user_network(name: str) -> nn.Module:
    """A new network from `package.module:function`; modules of the current directory can be imported.

    Raises: ConfigError if the import fails, the function is missing, or it returns no nn.Module.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ConfigError(f"{name!r} is not package.module:function; give for example mynets.small:build")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), function_name, None)
    except Exception as error:
        raise ConfigError(f"cannot import {module_name} for model {name}: {_brief(error)}") from error
    if not callable(function):
        raise ConfigError(f"{module_name} has no function {function_name!r}; name one that returns the network")
    try:
        network = function()
    except Exception as error:
        raise ConfigError(f"{name}() failed: {_brief(error)}; it must run without arguments") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{name}() returned {type(network).__name__}; it must return a torch.nn.Module")
    return network


def preprocessing_of(module: nn.Module, name: str) -> tuple[Preprocessing, tuple[int, int, int]]:
    """How the network wants its images, from its attributes `preprocessing` and `input_shape`, both optional.

    `preprocessing` is a Preprocessing or a mapping of its fields, `input_shape` is (C, H, W); ImageNet's without them.
    Raises: ConfigError if they cannot be understood or contradict each other.
    """
    given = getattr(module, "preprocessing", None)
    shape = getattr(module, "input_shape", None)
    try:
        dims = None if shape is None else tuple(int(length) for length in shape)
        preprocessing = _preprocessing(given, dims)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: its preprocessing or input_shape is not usable: {_brief(error)}") from error
    expected = preprocessing.shape()
    if dims is not None and dims != expected:
        raise ConfigError(f"{name}: input_shape {dims} is not {expected} as its preprocessing says; square images only")
    return preprocessing, expected


def probe(module: nn.Module, shape: tuple[int, int, int], name: str) -> int:
    """How many classes the network answers for one image of that shape. Raises: ConfigError if it does not run."""
    training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            logits = module(torch.zeros(1, *shape))
    except Exception as error:
        raise ConfigError(
            f"{name} does not run on an input of shape {(1, *shape)}: {_brief(error)}; set its attribute input_shape"
        ) from error
    finally:
        module.train(training)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        answer = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ConfigError(f"{name} answers {answer}; it must answer logits of shape (images, classes)")
    return int(logits.shape[1])


def _preprocessing(given: object, shape: tuple[int, ...] | None) -> Preprocessing:
    if isinstance(given, Preprocessing):
        return given
    if isinstance(given, Mapping):
        fields: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in given.items()}
        return Preprocessing(**fields)
    if given is not None:
        raise TypeError(f"preprocessing is a {type(given).__name__}, not a mapping of resize, crop, mean and std")
    if shape is None:
        return Preprocessing(resize=256, crop=224)
    channels, height, _ = shape
    resize = 256 if height == 224 else height
    defaults = Preprocessing(resize=resize, crop=height)
    if channels == 3:
        return defaults
    return replace(defaults, mean=(0.5,) * channels, std=(0.5,) * channels)


def _brief(error: Exception) -> str:
    """The error in one line."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
