"""`amc devices`, `amc doctor`, `amc selfcheck`: what can be measured on, how it feels, whether all of it works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_mobile.cli import options


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for verb in (devices, doctor, selfcheck):
        app.command()(verb)


def devices(
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove everything that was ever sent to the phone, runner and models.")
    ] = False,
    device: options.DeviceNames = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Print the command with which this machine and its phones join a Ray cluster.")
    ] = False,
    address: Annotated[str | None, typer.Option("--address", help="With --ray: of the cluster, HOST:PORT.")] = None,
    json: options.Json = False,
) -> None:
    """List the devices that can be used now, and say what to do about those that cannot.

    Names of your own stand in devices.toml, in the working folder or in ~/.config/amc-mobile: [pixel] address =
    "usb:SERIAL" (or "HOST:PORT", or "server:SERIAL" through adb), and if you like threads, cores, provider.
    --device chooses phones for --clean.
    """
    from amc_mobile.cli.named import device_names
    from amc_mobile.cli.phone_list import clean_phones, show_devices

    if ray:
        from amc_mobile.cli.farming import show_join

        show_join(address, json)
    elif clean:
        clean_phones([name for name in device_names(device or ["all"]) if name is not None], json)
    else:
        show_devices(json)


def doctor(
    device: options.DeviceName = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    cores: options.Cores = None,
    provider: options.Provider = None,
    json: options.Json = False,
) -> None:
    """Say whether a device can be measured now.

    Looks at clocks, load, heat, battery and cores, and measures the noise with a small network. Exit code 4 if it is
    too noisy.
    """
    from amc_mobile.cli.console import print_json, progress_line, working
    from amc_mobile.cli.examination import obstacles_of, show_health
    from amc_mobile.cli.open_device import open_device
    from amc_mobile.cli.settings import override
    from amc_mobile.config import RunConfig
    from amc_mobile.device.stability import examine

    changes = {
        "device.name": device,
        "device.threads": threads,
        "device.precision": precision,
        "device.cores": options.core_list(cores),
        "device.provider": provider,
    }
    opened = open_device(override(RunConfig(), changes).device, force=True)
    with working(), progress_line("doctor") as progress:
        found = obstacles_of(opened, examine(opened, progress=progress))
    if json:
        print_json(found)
    else:
        show_health(found)
    if not found.steady:
        raise typer.Exit(4)


def selfcheck(
    device: options.DeviceName = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the answers (default: selfcheck-DEVICE.json).")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show whether all of the phone path works on a phone, in a minute or two.

    Files, runner, answers, times of layers, faults, steadiness. Send the file that it writes with a report of a fault.
    Exit code 3 if a check fails.
    """
    from amc_mobile.cli.checking import check_phone

    if not check_phone(device, out, json):
        raise typer.Exit(3)
