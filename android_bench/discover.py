"""Phones that can be seen now: over USB, and at an adb server that runs. Starts nothing; no phone asks its owner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from amc_mobile.errors import AmcError, DeviceError, first_line
from android_bench import direct, server, wires
from android_bench.adb import Address, ConnectionLost, Refused, printable

State = Literal["ready", "unauthorised", "offline", "busy", "no permission"]

_ALLOW = "unlock it, plug it in again, and tap 'Allow' on its screen"
_SERVER_STATES: dict[str, tuple[State, str]] = {
    "device": ("ready", ""),
    "unauthorized": ("unauthorised", _ALLOW),
    "authorizing": ("unauthorised", _ALLOW),
    "no": ("no permission", "install udev rules (android-sdk-platform-tools-common), then plug it in again"),
}


@dataclass(frozen=True, slots=True)
class Found:
    """One phone that was seen, whether it can be used, and what to do if not. All texts are printable."""

    address: Address
    model: str
    state: State
    remedy: str


def found() -> tuple[list[Found], dict[str, str]]:
    """The phones that can be seen, and by way ("usb", "adb server") why one could not be looked along. Never raises."""
    missing: dict[str, str] = {}
    served = _seen("adb server", at_server, missing)
    known = {phone.address.serial for phone in served}
    plugged = _seen("usb", on_usb, missing)
    return [*served, *(phone for phone in plugged if phone.address.serial not in known)], missing


def _seen(way: str, look: Callable[[], list[Found]], missing: dict[str, str]) -> list[Found]:
    try:
        return look()
    except AmcError as error:
        missing[way] = str(error)
        return []


def at_server() -> list[Found]:
    """The phones at the running adb server. Raises: Refused without adbutils; ConnectionLost without a server."""
    phones = []
    for serial, word, model in server.phones():
        state, remedy = _SERVER_STATES.get(word, ("offline", f"it is {printable(word)}: plug it in again, unlock it"))
        phones.append(Found(Address("server", serial), printable(model), state, remedy))
    return phones


def on_usb() -> list[Found]:
    """The phones on USB. Raises: Refused if USB cannot be used on this computer."""
    try:
        from adb_shell.transport.usb_transport import UsbTransport
    except (ImportError, OSError) as error:
        raise Refused(wires.usb_missing(error)) from error
    try:
        return [_on_cable(transport) for transport in UsbTransport.find_all_adb_devices()]
    except Exception as error:
        raise Refused(f"USB cannot be searched ({printable(first_line(error))}); plug the phone in again") from error


def _on_cable(transport: Any) -> Found:
    """What is known of one phone on USB, which is opened for a moment."""
    port = "-".join(map(str, transport.port_path))
    try:
        serial = transport.serial_number
        model = printable(transport._device.getProduct() or "")
    except Exception as error:  # noqa: BLE001 - usb1 is optional, so are its error types
        return _unusable(Address("usb", f"port {port}"), "", wires.usb_refusal(f"the phone at port {port}", error))
    address = Address("usb", serial)
    try:
        direct.over(wires.UsbWire(serial, transport), str(address), authorise_s=0).close()
    except DeviceError as error:
        return _unusable(address, model, error)
    return Found(address, model, "ready", "")


def _unusable(address: Address, model: str, error: DeviceError) -> Found:
    """A phone with the reason why it cannot be used now."""
    cause = error.__cause__
    kind = type(getattr(cause, "usb_error", None) or cause).__name__
    states: dict[str, State] = {"USBErrorBusy": "busy", "USBErrorAccess": "no permission"}
    state: State = states.get(kind, "offline" if isinstance(error, ConnectionLost) else "unauthorised")
    return Found(address, model, state, str(error))
