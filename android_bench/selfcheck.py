"""Does the whole path work on this phone? What an owner of one runs once, and sends along with a report of a fault.

Every check is a question with an answer in figures. A check that fails does not keep the next ones from being made,
unless they need what it could not do.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from amc_mobile.device.protocol import ModelsFailed
from amc_mobile.device.stability import examine
from amc_mobile.errors import DeviceError
from amc_mobile.measurements import TimingJob, TimingProtocol
from android_bench.adb import quote
from android_bench.answers import answers, greeting
from android_bench.device import AndroidDevice
from android_bench.readiness import obstacles

_PUSH_BYTES = 16 * 2**20
_ASK_S = 60.0
_QUICK = TimingProtocol(rounds=1, warmups=2, runs=15, min_time_s=0.0, profile_warmups=2, profile_runs=10)
_TOLERANCE = 1e-5  # of the largest output, between two processors


@dataclass(frozen=True, slots=True)
class Check:
    """One question, whether its answer is good, and the answer."""

    question: str
    passed: bool
    answer: str


def selfcheck(device: AndroidDevice, told: Callable[[str], None]) -> Iterator[Check]:
    """Makes the checks one after the other."""
    questions: tuple[tuple[str, Callable[[AndroidDevice], str]], ...] = (
        ("What is it?", _identity),
        ("How does it feel?", _feeling),
        ("Do files arrive as they were sent, and how fast?", _push),
        ("Does the runner start, and on which cores?", _runner),
        ("Does a network answer as on this computer?", _numbers),
        ("Are times of single layers told?", _layers),
        ("Is a model that cannot run told apart, the others' times kept?", _broken),
        ("How steady is its clock?", _steadiness),
    )
    for question, answer in questions:
        told(question)
        try:
            yield Check(question, True, answer(device))
        except DeviceError as error:
            yield Check(question, False, " ".join(str(error).split()))


def _identity(device: AndroidDevice) -> str:
    phone = device.phone
    cores = ", ".join(
        f"{core.index}: {core.capacity or '?'} at {(core.most_khz or 0) // 1000} MHz" for core in phone.cores
    )
    sdk = f"SDK {phone.sdk}" if phone.sdk else ""
    facts = (phone.name, phone.os, sdk, phone.soc, "/".join(phone.abis) or phone.machine, f"cores {cores}")
    return "; ".join(filter(None, facts))


def _feeling(device: AndroidDevice) -> str:
    state = device.state()
    if found := obstacles(state):
        raise DeviceError(found[0])
    known = {
        "thermal status": state.thermal_status,
        "processor °C": state.conditions.temperature_celsius,
        "battery %": state.conditions.battery_percent,
        "battery °C": state.battery_celsius,
        "governor": state.conditions.governor,
        "clocks MHz": "/".join(str(khz // 1000) for khz in state.conditions.clock_khz) or None,
    }
    return ", ".join(f"{name} {'not told' if value is None else value}" for name, value in known.items())


def _push(device: AndroidDevice) -> str:
    data = np.random.default_rng(0).bytes(_PUSH_BYTES)
    place = posixpath.join(device.root, "selfcheck.bin")
    device.adb.shell(f"mkdir -p {quote(device.root)}", timeout_s=_ASK_S, again=True)
    times = []
    for action in (lambda: device.adb.push(data, place), lambda: device.adb.pull(place, most_bytes=_PUSH_BYTES)):
        start = time.perf_counter()
        came = action()
        times.append(_PUSH_BYTES / 2**20 / (time.perf_counter() - start))
    if came != data:
        raise DeviceError("a file came back changed: check the cable and the phone's storage")
    return f"{times[0]:.0f} MB/s there, {times[1]:.0f} MB/s back"


def _runner(device: AndroidDevice) -> str:
    hello = greeting(device)
    on = ", ".join(map(str, hello.cores)) or "unknown"
    if set(device.cores) - set(hello.cores):
        raise DeviceError(f"asked for cores {device.cores}, the kernel granted {on}: choose others in devices.toml")
    runtime = f"ONNX Runtime {hello.onnxruntime}, {hello.abi}, {device.bundle.build}"
    return f"{runtime}; cores {on}; {', '.join(hello.providers)}"


def _numbers(device: AndroidDevice) -> str:
    found = []
    for name, model in (("fp32", _network()), ("int8", _network(quantised=True))):
        image = np.random.default_rng(1).standard_normal((1, 8, 16, 16)).astype(np.float32)
        here = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": image})[0]
        there = answers(device, model, {"x": image})["y"]
        difference = float(np.abs(there - here).max() / np.abs(here).max())
        if not difference <= _TOLERANCE:
            raise DeviceError(
                f"the {name} network's answers differ by {difference:.1e} of the largest: do not trust it"
            )
        found.append(f"{name} within {difference:.0e}" if difference else f"{name} the same bits")
    return ", ".join(found)


def _layers(device: AndroidDevice) -> str:
    if not device.info().node_times:
        return f"not with {device.settings.provider}: whole networks only"
    measured = device.time_models([TimingJob("layers", _network(), profile=True)], _QUICK)[0]
    if not {"h", "y"} & {name for node in measured.nodes for name in node.outputs}:
        raise DeviceError("the nodes' times do not name the network's tensors: profile with --method layers")
    return (
        f"{len(measured.nodes)} nodes, {sum(node.round_us[0] for node in measured.nodes):.0f} µs of a whole network's "
        + (f"{measured.latency_us():.0f} µs")
    )


def _broken(device: AndroidDevice) -> str:
    jobs = [TimingJob("whole", _network()), TimingJob("broken", b"no network at all")]
    try:
        device.time_models(jobs, _QUICK)
    except ModelsFailed as failed:
        if set(failed.measured) == {"whole"} and set(failed.reasons) == {"broken"}:
            return "yes"
        raise
    raise DeviceError("a file that is no network was timed: the runner on the phone is not ours")


def _steadiness(device: AndroidDevice) -> str:
    if device.info().emulated:
        return "not looked at: an emulator's clock says nothing"
    found = examine(device, rounds=5)
    if not found.steady:
        raise DeviceError(found.reasons[0])
    return f"{found.noise_floor:.1%} between rounds"


def _network(*, quantised: bool = False) -> bytes:
    """Two convolutions of 8 channels at 16x16, x -> h -> y; `quantised`: the first input through int8 and back."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.standard_normal((8, 8, 3, 3)).astype(np.float32), f"w{n}") for n in range(2)]
    first, nodes = "x", []
    if quantised:
        weights += [
            numpy_helper.from_array(np.array(0.05, np.float32), "scale"),
            numpy_helper.from_array(np.array(0, np.int8), "zero"),
        ]
        nodes += [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantise")]
        nodes += [helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="dequantise")]
        first = "d"
    nodes.append(helper.make_node("Conv", [first, "w0"], ["c"], name="conv0", pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", ["c"], ["h"], name="relu"))
    nodes.append(helper.make_node("Conv", ["h", "w1"], ["y"], name="conv1", pads=[1, 1, 1, 1]))
    kind, shape = onnx.TensorProto.FLOAT, (1, 8, 16, 16)
    into, out = (helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "selfcheck", [into], [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())
