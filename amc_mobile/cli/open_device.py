"""Devices by name: the only place that knows which kinds of device there are."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from amc_mobile.errors import DeviceError

if TYPE_CHECKING:
    from amc_mobile.device.protocol import Device
    from amc_mobile.measurements import DeviceInfo
    from amc_mobile.sections.device import DeviceConfig

_HOST, _CUDA, _CUDA_ORT = "host", "cuda", "cuda-ort"
_NEAR = {
    **dict.fromkeys((_HOST, "cpu", "local", "localhost"), _HOST),
    "onnxruntime-gpu": _CUDA_ORT,
    **dict.fromkeys((_CUDA, "gpu", "nvidia", "cudnn", "geforce"), _CUDA),
}
_PRECISIONS = {_HOST: ("fp32", "int8"), _CUDA: ("fp32", "fp16", "bf16"), _CUDA_ORT: ("fp32",)}
_PHONE_PRECISIONS = ("fp32", "int8")


def open_device(config: DeviceConfig, *, force: bool = False) -> Device:
    """The device of that name, ready to measure; `force`: also a phone that is hot or low on battery.

    Raises: DeviceError for a name that no device has, or without it.
    """
    check_device(config)
    if not is_here(config.name):
        from amc_mobile.cli.phones import look_up, open_phone

        if (named := look_up(config.name)) is None:
            raise _unknown(config.name)
        return open_phone(config, named, force=force)
    if config.name in (_HOST, _CUDA_ORT):
        from amc_mobile.device.host import HostDevice
        from amc_mobile.device.ort_session import CPU, CUDA

        return HostDevice(
            config.threads,
            config.optimisation,
            precision=config.precision,
            batch=config.batch,
            cores=config.cores,
            provider=CPU if config.name == _HOST else CUDA,
        )
    from amc_mobile.device.gpu import TorchDevice  # brings torch

    return TorchDevice(config.name, precision=config.precision, batch=config.batch)


def usable() -> tuple[list[DeviceInfo], dict[str, str]]:
    """The devices of this machine that can be used now, and by name why others cannot. Never raises."""
    from amc_mobile.sections.device import DeviceConfig

    found, missing = [], {}
    for name in _PRECISIONS:
        try:
            first = open_device(DeviceConfig(name=name)).info()
            found += _gpus() if name == _CUDA else [first]
        except (DeviceError, ImportError) as error:
            missing[name] = str(error)
    return found, missing


def _gpus() -> list[DeviceInfo]:
    from amc_mobile.device.gpu import describe

    return describe()


def check_device(config: DeviceConfig) -> None:
    """Raises: DeviceError for a name that no device has, or a precision or provider that this one has not.

    Nothing is opened; phones that are attached are looked for.
    """
    check_device_name(config.name)
    here = is_here(config.name)
    known = _PRECISIONS[config.name.partition(":")[0]] if here else _PHONE_PRECISIONS
    if config.precision not in known:
        raise DeviceError(
            f"{config.name} is measured in {' or '.join(known)}, not in {config.precision}: set one of them"
        )
    if here and config.provider != "cpu":
        raise DeviceError(f"{config.provider} is a provider of phones: leave out --provider for {config.name}")


def is_here(name: str) -> bool:
    """Whether that is the name of a device of this machine."""
    return re.fullmatch(rf"{_HOST}|{_CUDA}(:\d+)?|{_CUDA_ORT}", name) is not None


def check_device_name(name: str) -> None:
    """Raises: DeviceError for a name that no device has. Cheap: nothing is opened."""
    from amc_mobile.cli.phones import look_up

    if not is_here(name) and look_up(name) is None:
        raise _unknown(name)


def _unknown(name: str) -> DeviceError:
    near = difflib.get_close_matches(name.lower().rstrip(":0123456789"), _NEAR, n=1, cutoff=0.7)
    if near:
        return DeviceError(f"there is no device {name!r}; did you mean --device {_NEAR[near[0]]}?")
    return DeviceError(
        f"there is no device {name!r}: no attached phone, no alias of devices.toml; `amc devices` lists what there is"
    )
