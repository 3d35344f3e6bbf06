"""The networks of a transfer against the clock: interleaved on one device, each shape once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amc_mobile.cli.benching import protocol_of
from amc_mobile.cli.console import note, progress_line
from amc_mobile.cli.open_device import open_device
from amc_mobile.measurements import DeviceInfo, Measurement, TimingJob
from amc_mobile.runs import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from amc_mobile.config import TransferConfig
    from amc_mobile.runs import RunFolder

Times = tuple[DeviceInfo, dict[str, Measurement]]  # the device, and by contender what it took


def clocked(config: TransferConfig, places: Mapping[str, RunFolder], path: Path, *, force: bool) -> Times:
    """Times the networks, or reads from `path` what the same networks took on the same device before.

    "scratch" has the pruned network's shape and takes what that takes. Raises: DeviceError.
    """
    from pydantic import TypeAdapter

    inputs = {
        "networks": {name: place.model_sha256() for name, place in places.items() if name != "scratch"},
        "device": config.device.model_dump(mode="json"),
        "bench": config.bench.model_dump(mode="json"),
    }
    if not path.is_file() or read_json(path)["inputs"] != inputs:
        info, results = _measured(config, {name: places[name] for name in inputs["networks"]}, force)
        write_json(path, {"inputs": inputs, "device": info, "measurements": results})
        note(f"     bench  {path}")
    content: dict[str, Any] = read_json(path)
    measured = TypeAdapter(dict[str, Measurement]).validate_python(content["measurements"])
    if "scratch" in places:
        measured["scratch"] = measured["pruned"]
    return DeviceInfo(**content["device"]), measured


def _measured(config: TransferConfig, places: Mapping[str, RunFolder], force: bool) -> Times:
    from amc_mobile.cli.session import read_onnx
    from amc_mobile.graph.trace import trace
    from amc_mobile.profile.variants import Variants

    device = open_device(config.device, force=force)
    info = device.info()
    jobs = []
    for name, place in places.items():
        network = read_onnx(place.require(place.model_onnx, "transfer"))
        jobs.append(TimingJob(name, Variants(trace(network, name), info).finished(network)))
    with progress_line("bench") as progress:
        results = device.time_models(jobs, protocol_of(config.bench, config.seed), progress)
    return info, {job.label: result for job, result in zip(jobs, results, strict=True)}
