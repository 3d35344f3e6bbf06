"""Phones by name: alias, serial number, HOST:PORT, or part of the model's name if just one attached phone has it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from amc_mobile.cli.aliases import Alias, aliases, split_address
from amc_mobile.cli.console import note
from amc_mobile.errors import AmcError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amc_mobile.sections.device import DeviceConfig
    from android_bench.adb import Adb, Address
    from android_bench.bundle import Bundle
    from android_bench.device import AndroidDevice
    from android_bench.discover import Found

_HOST_PORT = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):(\d{4,5})")  # "gpu:1" is none


@dataclass(frozen=True, slots=True)
class Named:
    """A phone that was found by a name, and what devices.toml says of it."""

    name: str
    address: Address
    alias: Alias | None = None


def is_address(name: str) -> bool:
    """Whether a name is HOST:PORT."""
    match = _HOST_PORT.fullmatch(name)
    return match is not None and 1024 <= int(match[1]) <= 65535


def look_up(name: str) -> Named | None:
    """The phone of that name; None if there is none. Raises: DeviceError if there are several, or it is not ready."""
    from android_bench.adb import Address

    if (alias := aliases().get(name)) is not None:
        transport, place = split_address(alias.address)
        return Named(name, Address(transport, place), alias)  # type: ignore[arg-type]  # the alias was checked
    phones, _ = attached()
    connected = {phone.address.serial for phone in phones if phone.state == "ready"}
    if is_address(name) and name not in connected:  # else adb has a connection that works
        return Named(name, Address("tcp", name))
    matching = [phone for phone in phones if phone.address.serial == name] or [
        phone for phone in phones if name.strip() and _plain(name) in _plain(phone.model)
    ]
    serials = {phone.address.serial for phone in matching}
    if len(serials) > 1:
        which = "; ".join(f"{phone.address} ({phone.model})" for phone in matching)
        raise DeviceError(f"{name!r} could be {which}: type the serial number, or name it in devices.toml")
    ready = [phone for phone in matching if phone.state == "ready" or _will_ask(phone)]
    if matching and not ready:
        raise DeviceError(f"{matching[0].address} ({matching[0].state}): {matching[0].remedy}")
    return Named(name, ready[0].address) if ready else None


def _will_ask(phone: Found) -> bool:
    """Whether connecting to the phone makes it ask its owner; one at an adb server asks on its own."""
    return phone.state == "unauthorised" and phone.address.transport == "usb"


def _plain(name: str) -> str:
    return name.lower().replace("_", " ")


def attached() -> tuple[list[Found], dict[str, str]]:
    """Phones over USB and at a running adb server, and what could not be looked for. Never raises."""
    from android_bench.discover import found

    return found()


def reach(address: Address) -> Adb:
    """The phone at an address, connected when it is first needed; a tap that it waits for is told on stderr."""
    from android_bench.adb import Adb, connect

    return Adb(address, partial(connect, notice=note))


def open_phone(config: DeviceConfig, named: Named, *, force: bool = False) -> AndroidDevice:
    """The phone, ready to measure. Raises: DeviceError for settings that it cannot have."""
    from android_bench.device import AndroidDevice, PhoneSettings

    alias = named.alias
    settings = PhoneSettings(
        name=named.name,
        threads=config.threads,
        optimisation=config.optimisation,
        precision=config.precision,
        batch=config.batch,
        cores=None if config.cores is None else tuple(config.cores),
        provider=config.provider,
        options=alias.options if alias else {},
        wrapper=tuple(alias.wrapper) if alias else (),
        force=force,
    )
    return AndroidDevice(reach(named.address), settings, _bundles(alias), notice=note)


def named_ones() -> list[Named]:
    """The phones of devices.toml."""
    return [named for name in aliases() if (named := look_up(name)) is not None]


def ready_names() -> list[str]:
    """Every phone that could be measured now: those of devices.toml that answer and those attached, each once."""
    from amc_mobile.cli.many import each

    candidates: dict[str, Named | Found] = {phone.name: phone for phone in named_ones()}
    taken = {phone.address.serial for phone in candidates.values()}
    for phone in attached()[0]:
        if phone.state == "ready" and phone.address.serial not in taken:
            candidates.setdefault(phone.address.serial, phone)
    asked, _ = each(list(candidates), lambda name, _progress: listed(candidates[name]), quiet=True)
    ready: list[str] = []
    units: dict[str, str] = {}
    for name in candidates:
        if asked[name].state != "ready":
            note(f"{name} is left out: {asked[name].remedy}")
        elif asked[name].unit in units:
            note(f"{name} is left out: it is the phone {units[asked[name].unit]}, reached in another way")
        else:
            ready.append(name)
            if asked[name].unit:
                units[asked[name].unit] = name
    return ready


def _bundles(alias: Alias | None) -> Callable[[Sequence[str]], Bundle]:
    """Makes the runner for the first of a phone's ABIs that there is one for."""

    def bundle_for(abis: Sequence[str]) -> Bundle:
        from android_bench.bundle import Abi, bundle

        known: dict[str, Abi] = {"arm64-v8a": "arm64-v8a", "x86_64": "x86_64"}
        abi = next((known[abi] for abi in abis if abi in known), None)
        if abi is None:
            raise DeviceError(
                f"there is no runner for {', '.join(abis) or 'an unknown processor'}: 64-bit Arm and x86 only"
            )
        return bundle(
            abi,
            aar=alias.aar if alias else None,
            libraries=alias.libraries if alias else None,
            progress=lambda what: note(f"    runner  {what}"),
        )

    return bundle_for


def clean(named: Named) -> int:
    """Removes everything of ours from a phone; answers how many bytes that were."""
    from android_bench.device import remove_everything

    adb = reach(named.address)
    try:
        return remove_everything(adb)
    finally:
        adb.close()


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `amc devices`: what a phone is, whether it can be used, and what to do if not."""

    name: str
    model: str
    soc: str
    os: str
    state: str
    remedy: str
    unit: str = ""  # tells whether two of them are one phone, reached in two ways; empty if that is not known


def listed(named_or_found: Named | Found) -> Listed:
    """Asks a phone that seems to be ready what it is. Never raises."""
    from android_bench.adb import printable
    from android_bench.phone import identify

    name = named_or_found.name if isinstance(named_or_found, Named) else str(named_or_found.address)
    if not isinstance(named_or_found, Named) and named_or_found.state != "ready":
        return Listed(name, printable(named_or_found.model), "", "", named_or_found.state, named_or_found.remedy)
    try:
        adb = reach(named_or_found.address)
        try:
            phone = identify(adb)
        finally:
            adb.close()
    except AmcError as error:
        return Listed(name, "", "", "", "unreachable", printable(str(error), 300))
    return Listed(name, phone.name, phone.soc, phone.os, "ready", "", phone.unit)
