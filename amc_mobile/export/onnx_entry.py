"""A network that is only an ONNX file: what it reads and what it answers, told by the file itself."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

import onnx

from amc_mobile.errors import ConfigError
from amc_mobile.export.from_onnx import answer_shape
from amc_mobile.graph.prepare import activations
from amc_mobile.models.preprocessing import Preprocessing
from amc_mobile.models.zoo import ModelEntry

_IMAGE_CHANNELS = (1, 3)
_IMAGENET_PX, _IMAGENET_RESIZE_PX = 224, 256


def entry_of(model: onnx.ModelProto, name: str) -> ModelEntry:
    """Input shape and number of classes of an adopted ONNX file; `build` refuses, there is no source.

    The file does not say how its images were normalised: without model.mean and model.std pixels are read as numbers
    from 0 to 1. Raises: ConfigError if it does not read square images of one or three channels or answers no logits.
    """
    channels, height, width = _image_shape(model, name)
    answer = answer_shape(model, (channels, height, width))
    if len(answer) != 2 or answer[0] != 1:
        raise ConfigError(f"{name} answers {answer} for one image; it must answer logits of shape (images, classes)")
    resize = _IMAGENET_RESIZE_PX if height == _IMAGENET_PX else height
    preprocessing = Preprocessing(resize, height, mean=(0.0,) * channels, std=(1.0,) * channels)
    return ModelEntry(name, partial(_refuse, name), (channels, height, width), answer[1], preprocessing)


def _image_shape(model: onnx.ModelProto, name: str) -> tuple[int, int, int]:
    """(C, H, W) of the one input."""
    image = activations(model.graph)[0]
    kind = image.type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        spelt = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        raise ConfigError(f"{name} reads {spelt} numbers; export it again in float32")
    shape = tuple(dim.dim_value for dim in kind.shape.dim)
    if len(shape) == 4 and shape[1] not in _IMAGE_CHANNELS and shape[3] in _IMAGE_CHANNELS:
        raise ConfigError(
            f"{name} reads {shape}, channels last; export it again with (images, channels, height, width)"
        )
    if len(shape) != 4 or shape[1] not in _IMAGE_CHANNELS or shape[2] != shape[3]:
        raise ConfigError(f"{name} reads {shape}; a search needs square images of one or three channels")
    return shape[1], shape[2], shape[3]


def _refuse(name: str) -> NoReturn:
    raise ConfigError(f"{name} is an ONNX file without its PyTorch source; run the ONNX files of the run instead")
