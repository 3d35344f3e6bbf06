"""The devices that a command line names."""

from __future__ import annotations

from collections.abc import Sequence

from amc_mobile.errors import DeviceError

ALL = "all"


def device_names(given: Sequence[str] | None) -> list[str | None]:
    """Each name once; [None] if none is given: the config's. "all" stands for every phone that is ready.

    Raises: DeviceError if there is no such phone.
    """
    if not given:
        return [None]
    if ALL not in given:
        return list(dict.fromkeys(given))
    from amc_mobile.cli.phones import ready_names

    ready = ready_names()
    if not ready:
        raise DeviceError("no phone is ready: `amc devices` says why; plug one in, or name it in devices.toml")
    return list(dict.fromkeys([*(name for name in given if name != ALL), *ready]))
