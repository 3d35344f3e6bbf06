"""A run's networks on one device: the original, the pruned, and the pruned one in int8, timed against each other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from amc_mobile.types import TimingProtocol

if TYPE_CHECKING:
    import onnx

    from amc_mobile.cli.session import Session
    from amc_mobile.config import BenchConfig
    from amc_mobile.cost.table import LatencyTable
    from amc_mobile.device.protocol import Device, Progress
    from amc_mobile.types import Comparison, DeviceInfo

_PROFILE_WARMUPS, _PROFILE_RUNS = 3, 10  # of each round: the layers are a picture, not a measurement to decide by


def bench_device(session: Session, device: Device, progress: Progress, *, table: LatencyTable | None) -> Comparison:
    """Times the run's networks on a device, beside what the table says. May be called for several devices at once.

    Raises: DeviceError, RunFolderError, GraphError.
    """
    from amc_mobile.cli.session import read_onnx
    from amc_mobile.profile.compare import compare
    from amc_mobile.profile.variants import Variants

    folder, info = session.folder, device.info()
    protocol = protocol_of(session.config.bench, session.config.seed)
    variants = Variants(session.traced, info)  # in the device's precision and batch
    original = variants.finished(read_onnx(folder.require(folder.original_onnx, "search")))
    network = read_onnx(folder.require(folder.model_onnx, "export"))
    predicted_us, reference_us = predictions_us(session, info, table)
    int8, failed = quantised(session, info, network)
    found = compare(
        device,
        original,
        variants.finished(network),
        protocol,
        predicted_us,
        progress,
        reference_us=reference_us,
        int8=int8,
        variants=variants,
    )
    return replace(found, failed={**failed, **found.failed}, model_sha256=folder.model_sha256())


def protocol_of(settings: BenchConfig, seed: int) -> TimingProtocol:
    """How whole networks are timed against each other."""
    return TimingProtocol(
        rounds=settings.rounds,
        warmups=settings.warmups,
        runs=settings.runs,
        min_time_s=settings.min_time_s,
        profile_warmups=_PROFILE_WARMUPS,
        profile_runs=_PROFILE_RUNS,
        seed=seed,
    )


def predictions_us(
    session: Session, info: DeviceInfo, table: LatencyTable | None
) -> tuple[float, float] | tuple[None, None]:
    """What the table says of the pruned network, and what the original took when the table was measured.

    Nothing without a table, or with one of another device.
    """
    from amc_mobile.profile.predict import original_us, predict_us

    if table is None or session.fine_grained or table.device.key() != info.key():
        return None, None
    network = session.traced.network
    return predict_us(table, network, session.policy().kept), original_us(table, network)


def quantised(session: Session, info: DeviceInfo, network: onnx.ModelProto) -> tuple[bytes | None, dict[str, str]]:
    """The network in int8 with ranges from noise, good for its speed only; else by label why there is none.

    Only for devices that run float networks on a processor; the settings may do without.
    """
    from amc_mobile.errors import GraphError
    from amc_mobile.profile.variants import Variants

    on_processor = info.runtime.startswith("onnxruntime") and "CUDA" not in info.provider
    if not session.config.bench.int8 or info.precision != "fp32" or not on_processor:
        return None, {}
    try:
        return Variants(session.traced, replace(info, precision="int8")).finished(network), {}
    except GraphError as error:
        return None, {"int8": str(error)}
