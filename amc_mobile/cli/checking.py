"""`amc selfcheck`: the checks of a phone as lines, and as a file to send along with a report of a fault."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from amc_mobile.cli.console import note, print_json
from amc_mobile.errors import DeviceError
from amc_mobile.runs import file_name, plain, write_json

if TYPE_CHECKING:
    from android_bench.device import AndroidDevice
    from android_bench.selfcheck import Check


def check_phone(name: str | None, out: Path | None, as_json: bool) -> bool:
    """Makes all checks, prints and writes them; answers whether all passed. Raises: DeviceError for no phone."""
    from android_bench.selfcheck import selfcheck

    device = _phone(name)
    checks: list[Check] = []
    for check in selfcheck(device, lambda question: note(f" selfcheck  {question}")):
        checks.append(check)
        if not as_json:
            print(f"{'ok    ' if check.passed else 'FAILED'}  {check.question}\n        {check.answer}", flush=True)
    device.close()
    facts = {
        "device": device.settings.name,
        "this_computer": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "checks": plain(checks),
        "passed": all(check.passed for check in checks),
    }
    path = out or Path(f"selfcheck-{file_name(device.settings.name)}.json")
    write_json(path, facts)
    if as_json:
        print_json(facts | {"file": str(path)})
    else:
        note(f"written to {path}")
    return bool(facts["passed"])


def _phone(name: str | None) -> AndroidDevice:
    """The phone of that name, or the only one that is ready."""
    from amc_mobile.cli.open_device import open_device
    from amc_mobile.cli.phones import ready_names
    from amc_mobile.cli.settings import override
    from amc_mobile.config import RunConfig
    from android_bench.device import AndroidDevice

    if name is None:
        ready = ready_names()
        if len(ready) != 1:
            raise DeviceError(
                f"say which phone with --device: {', '.join(ready) or 'none is ready, see `amc devices`'}"
            )
        name = ready[0]
    device = open_device(override(RunConfig(), {"device.name": name}).device)
    if not isinstance(device, AndroidDevice):
        raise DeviceError(f"{name} is no phone: type `amc doctor --device {name}`")
    return device
