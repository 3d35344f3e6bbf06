"""Whatever is wrong with a manifest, a library, an option or a model: one JSON line that says it, and an exit code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from android_bench.runner.manifest import Model, Step
from tests.android_bench.runner.running import Program, convolution, elementwise, saved

HEAD = "amc-runner 1\nlibrary /none.so\n"


def refused(ran) -> tuple[int, str, str]:
    (failed,) = ran.events
    assert failed.step is None
    return ran.code, failed.code, failed.message


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_usage(arguments, program: Program, tmp_path: Path):
    assert refused(program.start(arguments, tmp_path, done=False)) == (2, "usage", "type: runner MANIFEST")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'its last line is not "end"'),
        ("amc-runner 1", "line 1 has no end"),
        ("amc-runner 2\nend\n", "its first line is not"),
        ("end\n", "its first line is not"),
        (HEAD, 'its last line is not "end"'),
        (HEAD + "en", "line 3 has no end"),
        (HEAD + "end", "line 3 has no end"),
        (HEAD + "end\nthreads 1\n", "line 4 comes after the end"),
        ("amc-runner 1\nend\n", "it names no library"),
        (HEAD + "end\n\0", "there is a NUL"),
        (HEAD + "\nend\n", "line 3: it needs a key"),
        (HEAD + "threads\nend\n", "line 3: it needs a key"),
        (HEAD + "threads \nend\n", "line 3: it needs a key"),
        (HEAD + "rounds 3\nend\n", "line 3: there is no such key"),
        (HEAD + "library /b\nend\n", "line 3: this was said before"),
        (HEAD + "threads 0\nend\n", "line 3: threads are"),
        (HEAD + "threads 1025\nend\n", "line 3: threads are"),
        (HEAD + "threads -1\nend\n", "line 3: threads are"),
        (HEAD + "threads 99999999999999999999\nend\n", "line 3: threads are"),
        (HEAD + "level most\nend\n", "line 3: there is no such level"),
        (HEAD + "clock sun\nend\n", "line 3: there is no such clock"),
        (HEAD + "seed 18446744073709551616\nend\n", "line 3: a seed is"),
        (HEAD + "cores 1,,2\nend\n", "line 3: cores are"),
        (HEAD + "cores 1,\nend\n", "line 3: cores are"),
        (HEAD + "cores 1024\nend\n", "line 3: cores are"),
        (HEAD + "option a\nend\n", "line 3: it needs a name, a tab"),
        (HEAD + "option \tb\nend\n", "line 3: it needs a name, a tab"),
        (HEAD + "config a\tb\tc\nend\n", "line 3: it needs a name, a tab"),
        (HEAD + "sample a\tb\nsample a\tc\nend\n", "line 4: this name was given before"),
        (HEAD + "input a\tb\nend\n", "line 3: there is no model above"),
        (HEAD + "free a\t1\nend\n", "line 3: there is no model above"),
        (HEAD + "model m\nfree a\t0\nend\n", "line 4: it needs a name, a tab and a size"),
        (HEAD + "model m\nfree a\t2147483648\nend\n", "line 4: it needs a name, a tab and a size"),
        (HEAD + "step 0 time\nend\n", "line 3: it needs the number of a model above"),
        (HEAD + "model m\nstep 1 time\nend\n", "line 4: it needs the number of a model above"),
        (HEAD + "model m\nstep 0\nend\n", "line 4: it needs the number of a model above"),
        (HEAD + "model m\nstep 0 sleep\nend\n", "line 4: there is no such kind"),
        *(
            (HEAD + f"model m\nstep 0 time {setting}\nend\n", "line 4: this setting of a step cannot be read")
            for setting in (
                "runs=0",
                "runs=1000001",
                "runs=1 ",
                "runs",
                "runs=",
                "runs=0x1",
                "warmups=100001",
                "warmups=+1",
                "min_time_s=1e3",
                "min_time_s=.5",
                "min_time_s=1.",
                "min_time_s=nan",
                "min_time_s=86400.1",
                "min_time_s=0.0000000001",
                "most_time_s=-1",
                "cold=2",
                "optimised=yes",
                "rounds=1",
            )
        ),
    ],
)
def test_manifests(text, message, program: Program, tmp_path: Path):
    code, name, said = refused(program.run(text, tmp_path, done=False))
    assert (code, name) == (3, "manifest")
    assert message in said


def test_manifests_that_are_no_files(program: Program, tmp_path: Path):
    for path in ("missing.txt", ".", "/dev/zero"):
        code, name, said = refused(program.start([path], tmp_path, done=False))
        assert (code, name) == (3, "manifest")
        assert f"cannot read {path}: " in said


def test_libraries(program: Program, tmp_path: Path):
    (tmp_path / "text.so").write_text("no library", encoding="utf-8")
    for path, message in (
        ("/none.so", "cannot load /none.so"),
        ("./text.so", "cannot load ./text.so"),
        ("libc.so.6", "libc.so.6 is no ONNX Runtime"),
    ):
        text = f"amc-runner 1\nlibrary {path}\nend\n"
        code, name, said = refused(program.run(text, tmp_path, done=False))
        assert (code, name) == (4, "library")
        assert message in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"provider": "xnnpack"}, "XNNPACK"),
        ({"provider": "nnapi"}, "built without NNAPI"),
        ({"provider": "nnapi", "options": {"use_fp16": "2"}}, "nnapi has no option use_fp16 that can be 2"),
        ({"provider": "nnapi", "options": {"a": "1"}}, "nnapi has no option a that can be 1"),
        ({"provider": "qnn", "options": {"backend_path": "libQnnCpu.so"}}, "QNN"),
        ({"provider": "abacus"}, "abacus"),
        ({"options": {"a": "b"}}, "provider cpu has no options"),
        ({"config": {"k" * 5000: "v"}}, "k"),
        ({"cores": (1023,)}, "cannot run on cores 1023"),
    ],
)
def test_options(settings, message, program: Program, tmp_path: Path):
    ran = program.run(program.manifest(steps=(), **settings), tmp_path, done=False)
    code, name, said = refused(ran)
    assert (code, name) == (5, "option")
    assert message in said


def strings() -> onnx.ModelProto:
    return elementwise("Identity", TensorProto.STRING, (1,))


def huge() -> onnx.ModelProto:
    return elementwise("Identity", TensorProto.FLOAT, (2**20, 2**20, 2**20, 2**20))


def sequence() -> onnx.ModelProto:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, (1,)))
    node = helper.make_node("SequenceLength", ["s"], ["n"])
    given = [helper.make_value_info("s", kind)]
    graph = helper.make_graph([node], "s", given, [helper.make_tensor_value_info("n", TensorProto.INT64, ())])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def failing() -> onnx.ModelProto:
    """Loads, and fails when it runs: the reshape does not fit what comes at run time."""
    model = elementwise("Identity", TensorProto.FLOAT, ("n", 3))
    model.graph.node.append(helper.make_node("Reshape", ["out", "shape"], ["flat"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, 7], np.int64), "shape"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("flat", TensorProto.FLOAT, (7, 7)))
    return model


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (strings, "input", "input in 0: its element type 8"),
        (huge, "input", "input in 0: it has more than 1024 MiB"),
        (sequence, "input", "input s: it is no tensor"),
        (failing, "run", "it does not run: "),
    ],
)
def test_models_that_cannot_be_run(make, code, message, program: Program, tmp_path: Path):
    place = saved(make(), tmp_path / "m.onnx")
    ran = program.run(program.manifest(place, steps=(Step(0, "time", 1, 1), Step(0, "time", 1, 1))), tmp_path)
    first, second = ran.failed()
    assert (first.step, first.code) == (0, code)
    assert message in first.message
    assert (second.step, second.code) == (1, "skipped")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": "short.bin"}, "short.bin has not the 1728 bytes"),
        ({"x": "long.bin"}, "long.bin has not the 1728 bytes"),
        ({"x": "/dev/zero"}, "/dev/zero has not the 1728 bytes"),
        ({"x": "missing.bin"}, "cannot read missing.bin"),
        ({"x": "."}, "cannot read ."),
        ({"y": "short.bin"}, "the model has no input y"),
    ],
)
def test_inputs(inputs, message, program: Program, tmp_path: Path):
    (tmp_path / "short.bin").write_bytes(bytes(1727))
    (tmp_path / "long.bin").write_bytes(bytes(1729))
    saved(convolution(), tmp_path / "m.onnx")
    ran = program.run(program.manifest(Model("m.onnx", inputs), steps=(Step(0, "time", 1, 1),)), tmp_path)
    (failed,) = ran.failed()
    assert failed.code == "input"
    assert message in failed.message


def test_models_that_are_not_there(program: Program, tmp_path: Path):
    for path in ("missing.onnx", "."):
        ran = program.run(program.manifest(Model(path), steps=(Step(0, "time", 1, 1),)), tmp_path)
        assert [(failed.step, failed.code) for failed in ran.failed()] == [(0, "model")]


def test_bytes_that_are_no_text_come_out_as_text(program: Program, tmp_path: Path):
    path = b'\xff\xc0\x80\xed\xa0\x80\xf5\xe2\x82"\\\x7f\x01.onnx'
    text = f"amc-runner 1\nlibrary {program.library}\nmodel ".encode() + path + b"\nstep 0 time\nend\n"
    (failed,) = program.run(text, tmp_path).failed()
    assert '�"\\\x7f\x01.onnx' in failed.message
