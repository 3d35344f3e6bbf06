"""The runner as a process on this machine, and small networks for it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from android_bench.runner.events import Done, Event, EventReader, Failed, Hello, Timed
from android_bench.runner.inputs import made_up
from android_bench.runner.manifest import Manifest, Model, Step

LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


@dataclass(frozen=True)
class Ran:
    """How one start of the runner ended. `events` is empty if stdout was not the protocol: ask `stdout`."""

    code: int
    events: list[Event]
    stdout: bytes
    stderr: bytes

    def timed(self) -> list[Timed]:
        return [event for event in self.events if isinstance(event, Timed)]

    def failed(self) -> list[Failed]:
        return [event for event in self.events if isinstance(event, Failed)]

    def hello(self) -> Hello:
        return next(event for event in self.events if isinstance(event, Hello))


@dataclass(frozen=True)
class Program:
    """The runner and its library."""

    runner: Path
    library: Path

    def manifest(self, *models: Model, steps: tuple[Step, ...], **rest) -> Manifest:
        return Manifest(str(self.library), models, steps, **rest)

    def run(self, manifest: Manifest | str | bytes, folder: Path, *, done: bool = True, **environment: str) -> Ran:
        """Runs it in `folder`. What it says must be the protocol, whatever was asked of it."""
        text = manifest.text() if isinstance(manifest, Manifest) else manifest
        (folder / "manifest.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        return self.start(["manifest.txt"], folder, done=done, **environment)

    def start(self, arguments: list[str], folder: Path, *, done: bool = True, **environment: str) -> Ran:
        ended = subprocess.run(
            [str(self.runner), *arguments],
            cwd=folder,
            capture_output=True,
            timeout=120,
            check=False,
            env={"PATH": "/nonexistent", **environment},
        )
        reader = EventReader()
        events = reader.feed(ended.stdout)
        reader.close()
        if done:
            assert ended.returncode == 0, (ended.stdout[-500:], ended.stderr[-500:])
            assert isinstance(events[0], Hello)
            assert isinstance(events[-1], Done)
        return Ran(ended.returncode, events, ended.stdout, ended.stderr)


def saved(model: onnx.ModelProto, path: Path) -> Model:
    onnx.save(model, path)
    return Model(str(path))


def convolution(
    size: int | str = 12, *, name: str = "x", kind: int = TensorProto.FLOAT, batch: int | str = 1
) -> onnx.ModelProto:
    """A convolution and a Relu: two nodes, 3 channels to 32. A text is a free dimension."""
    weight = np.random.default_rng(0).standard_normal((32, 3, 3, 3)).astype(helper.tensor_dtype_to_np_dtype(kind))
    graph = helper.make_graph(
        [
            helper.make_node("Conv", [name, "weight"], ["y"], pads=[1, 1, 1, 1], name="conv"),
            helper.make_node("Relu", ["y"], ["z"], name="relu"),
        ],
        "small",
        [helper.make_tensor_value_info(name, kind, (batch, 3, size, size))],
        [helper.make_tensor_value_info("z", kind, (batch, 32, size, size))],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def elementwise(operator: str, kind: int, shape: tuple[int | str, ...], inputs: int = 1) -> onnx.ModelProto:
    """One operator on inputs of any type: what comes out is what went in, or its sum."""
    names = [f"in {number}" for number in range(inputs)]
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["out"])],
        "one",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info("out", kind, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outputs(timed: Timed, folder: Path) -> list[np.ndarray]:
    return [np.fromfile(folder / output.file, np.dtype(output.type)).reshape(output.shape) for output in timed.tensors]


def expected(
    model: onnx.ModelProto,
    *,
    seed: int = 0,
    level: str = "all",
    threads: int = 1,
    free: Mapping[str, int] | None = None,
    feeds: Mapping[str, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """What Python's ONNX Runtime answers to the same inputs under the same settings."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = LEVELS[level]
    for name, size in (free or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
    given = dict(feeds or {})
    for item in session.get_inputs():
        if item.name not in given:
            shape = [size if isinstance(size, int) and size > 0 else (free or {}).get(size, 1) for size in item.shape]
            given[item.name] = made_up(item.name, shape, types.get(item.type, np.int64), seed)
    found: list[np.ndarray] = session.run(None, given)
    return found
