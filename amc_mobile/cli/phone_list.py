"""`amc devices`: a table of what there is, and the cleaning of phones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from amc_mobile.cli.console import note, print_json, print_table, working
from amc_mobile.cli.many import each
from amc_mobile.cli.open_device import usable
from amc_mobile.cli.phones import Listed, Named, attached, clean, listed, look_up, named_ones
from amc_mobile.errors import DeviceError
from amc_mobile.runs import plain

if TYPE_CHECKING:
    from android_bench.discover import Found


def show_devices(as_json: bool) -> None:
    """Prints this machine's devices and all phones that are named or attached, with what to do about each."""
    with working():
        here, missing = usable()
        phones, not_looked_for = find_phones()
    missing |= not_looked_for
    if as_json:
        print_json({"devices": here, "phones": [plain(phone) for phone in phones], "missing": missing})
        return
    rows = [(info.name, info.model, info.os, "ready", f"{info.runtime}, {info.provider}") for info in here]
    rows += [(phone.name, phone.model or "?", phone.os or "?", phone.state, phone.soc) for phone in phones]
    print_table([("device", "model", "system", "state", ""), *rows])
    for phone in phones:
        if phone.remedy:
            note(f"{phone.name}: {phone.remedy}")
    for name, reason in missing.items():
        note(f"{name}: {reason}")
    if not phones:
        note("no phone is attached: plug one in with USB debugging on, or type --device HOST:PORT")


def find_phones() -> tuple[list[Listed], dict[str, str]]:
    """The phones of devices.toml and those attached, each asked what it is, all at once; and what could not be seen."""
    found, missing = attached()
    named = named_ones()
    taken = {phone.address for phone in named}
    candidates: dict[str, Named | Found] = {phone.name: phone for phone in named}
    candidates |= {str(phone.address): phone for phone in found if phone.address not in taken}
    done, _ = each(list(candidates), lambda name, _progress: listed(candidates[name]), quiet=True)
    return [done[name] for name in candidates if name in done], missing


def clean_phones(names: Sequence[str], as_json: bool) -> None:
    """Removes everything of ours from each phone. Raises: DeviceError if one could not be cleaned."""
    phones: dict[str, Named] = {}
    for name in names:
        if (phone := look_up(name)) is None:
            raise DeviceError(f"there is no phone {name!r}; `amc devices` lists what there is")
        phones[name] = phone
    done, failed = each(names, lambda name, _progress: clean(phones[name]), quiet=True)
    if as_json:
        print_json({"removed_bytes": done, "failed": {name: str(error) for name, error in failed.items()}})
    else:
        for name, size in done.items():
            print(f"{name}: {size / 2**20:.1f} MB removed")
    if failed:
        name, error = next(iter(failed.items()))
        raise DeviceError(f"{name} was not cleaned: {error}")
