"""What networks answer on a phone: one run on given inputs, for comparing it with another machine's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from amc_mobile.errors import DeviceError
from android_bench.device import AndroidDevice
from android_bench.runner.events import Hello
from android_bench.runner.manifest import Model, Step

_LIMIT_S = 600.0


def greeting(device: AndroidDevice) -> Hello:
    """What the runner says of itself and of ONNX Runtime on that phone. Raises: DeviceError."""
    runner = device.runner(_quiet)
    outcome = runner.start(device.setup(runner.folder), _LIMIT_S, _LIMIT_S, lambda _event: None)
    if outcome.hello is None:
        raise DeviceError(f"the runner does not say who it is ({outcome.reason or 'no greeting'}); check the cable")
    return outcome.hello


def answers(
    device: AndroidDevice, model: bytes, inputs: Mapping[str, NDArray[np.generic]]
) -> dict[str, NDArray[np.generic]]:
    """The outputs of one run, by name. Raises: DeviceError if the model does not run there."""
    runner = device.runner(_quiet)
    (path,) = device.send([model], _quiet)
    raw = {name: np.ascontiguousarray(value).tobytes() for name, value in inputs.items()}
    files = dict(zip(raw, device.send(list(raw.values()), _quiet), strict=True))
    manifest = replace(
        device.setup(runner.folder), models=(Model(path, files),), steps=(Step(0, "outputs", warmups=0, runs=1),)
    )
    outcome = runner.start(manifest, _LIMIT_S, _LIMIT_S, lambda _event: None)
    if not outcome.timed:
        reason = outcome.failed[0].message if outcome.failed else outcome.reason
        raise DeviceError(f"the network {hashlib.sha256(model).hexdigest()[:12]} does not run on the phone: {reason}")
    return {
        tensor.name: np.frombuffer(runner.pull(tensor.file), np.dtype(tensor.type)).reshape(tensor.shape)
        for tensor in outcome.timed[0].tensors
    }


def _quiet(_what: str) -> None:
    """Nobody listens."""
