"""A run's networks on one device, original and pruned, each in int8, too: timed against each other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from amc_mobile.measurements import TimingProtocol

if TYPE_CHECKING:
    import onnx

    from amc_mobile.cli.session import Session
    from amc_mobile.cost.table import LatencyTable
    from amc_mobile.device.protocol import Device, Progress
    from amc_mobile.measurements import Comparison, DeviceInfo
    from amc_mobile.sections.bench import BenchConfig

_PROFILE_WARMUPS, _PROFILE_RUNS, _PROFILE_ROUNDS = 3, 10, 9  # the layers are a picture, not to decide by


def bench_device(session: Session, device: Device, progress: Progress, *, table: LatencyTable | None) -> Comparison:
    """Times the run's networks on a device, beside what the table says. May be called for several devices at once.

    Raises: DeviceError, RunFolderError, GraphError.
    """
    from amc_mobile.profile.compare import compare
    from amc_mobile.profile.variants import Variants

    folder, info = session.folder, device.info()
    protocol = protocol_of(session.config.bench, session.config.seed)
    variants = Variants(session.traced, info)  # in the device's precision and batch
    original, pruned = networks(session, info)
    int8, failed = beside(session, info)
    predicted_us, reference_us = predictions_us(session, info, table)
    found = compare(
        device,
        variants.sent(original),
        variants.sent(pruned),
        protocol,
        predicted_us,
        progress,
        reference_us=reference_us,
        **{label: variants.sent(model) for label, model in int8.items()},
        variants=variants,
    )
    in_int8 = info.precision == "int8" or found.int8 is not None
    return replace(
        found,
        failed={**failed, **found.failed},
        model_sha256=folder.model_sha256(),
        int8_sha256=folder.int8_sha256() if in_int8 else "",
    )


def networks(session: Session, info: DeviceInfo) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Original and pruned network in the precision of the device: the very files of the run.

    Raises: RunFolderError if they are not there, GraphError if they cannot be quantised.
    """
    from amc_mobile.cli.quantising import why_not
    from amc_mobile.cli.session import read_onnx
    from amc_mobile.errors import GraphError

    folder = session.folder
    if info.precision != "int8":
        original = read_onnx(folder.require(folder.original_onnx, "search"))
        return original, read_onnx(folder.require(folder.model_onnx, "export"))
    if reason := why_not(folder):
        raise GraphError(reason)
    original = read_onnx(folder.require(folder.original_int8, "export"))
    return original, read_onnx(folder.require(folder.model_int8, "export"))


def beside(session: Session, info: DeviceInfo) -> tuple[dict[str, onnx.ModelProto], dict[str, str]]:
    """The networks in int8 that are timed beside the float ones, by label; and by label why there are none.

    Only on processors that run float networks; the settings may do without.
    """
    from amc_mobile.cli.quantising import why_not
    from amc_mobile.cli.session import read_onnx

    folder = session.folder
    on_processor = info.runtime.startswith("onnxruntime") and "CUDA" not in info.provider
    if not session.config.int8.enabled or info.precision != "fp32" or not on_processor:
        return {}, {}
    if reason := why_not(folder):
        return {}, {"int8": reason}
    return {
        "original_int8": read_onnx(folder.require(folder.original_int8, "export")),
        "int8": read_onnx(folder.require(folder.model_int8, "export")),
    }, {}


def protocol_of(settings: BenchConfig, seed: int) -> TimingProtocol:
    """How whole networks are timed against each other."""
    return TimingProtocol(
        rounds=settings.rounds,
        warmups=settings.warmups,
        runs=settings.runs,
        min_time_s=settings.min_time_s,
        profile_warmups=_PROFILE_WARMUPS,
        profile_runs=_PROFILE_RUNS,
        profile_rounds=_PROFILE_ROUNDS,
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
