"""Devices by name: the only place that knows which kinds of device there are."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from amc_mobile.errors import DeviceError

if TYPE_CHECKING:
    from amc_mobile.config import DeviceConfig
    from amc_mobile.device.protocol import Device

_HOST = "host"
_LOOKS_LIKE_HOST = (_HOST, "cpu", "local", "localhost")


def open_device(config: DeviceConfig) -> Device:
    """The device of that name, ready to measure. Raises: DeviceError for a name that no device has."""
    check_device_name(config.name)
    from amc_mobile.device.host import HostDevice

    return HostDevice(config.threads, config.optimisation)


def check_device_name(name: str) -> None:
    """Raises: DeviceError for a name that no device has. Cheap: nothing is opened."""
    if name == _HOST:
        return
    if difflib.get_close_matches(name.lower(), _LOOKS_LIKE_HOST, n=1, cutoff=0.7):
        raise DeviceError(f"there is no device {name!r}; did you mean --device {_HOST}?")
    raise DeviceError(
        f"there is no device {name!r}: phones arrive with a later version, now type --device {_HOST} (this machine)"
    )
