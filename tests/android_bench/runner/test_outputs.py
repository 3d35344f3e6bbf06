"""The runner answers as Python's ONNX Runtime does, bit for bit, and makes up the inputs that PROTOCOL.md describes."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from amc_mobile.export.calibrate import activation_ranges
from amc_mobile.export.quantise import quantise
from android_bench.runner.inputs import made_up
from android_bench.runner.manifest import Model, Step
from tests.android_bench.runner.running import Program, convolution, elementwise, expected, outputs, saved

ONCE = (Step(0, "outputs", 0, 1),)
NETWORKS = ("digits", "resnet20", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small")  # the last: squeeze and excite


def answers(program: Program, model: onnx.ModelProto, folder: Path, **settings) -> list[np.ndarray]:
    manifest = program.manifest(saved(model, folder / "m.onnx"), steps=ONCE, **settings)
    (timed,) = program.run(manifest, folder).timed()
    return outputs(timed, folder)


def same(found: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    """Equal in type, shape and every bit."""
    pairs = list(zip(found, wanted, strict=True))
    return all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_answer_bit_for_bit_in_fp32_and_int8(name, program: Program, exported, tmp_path: Path):
    model = exported(name)
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    images = np.random.default_rng(0).standard_normal((1, *shape[1:])).astype(np.float32)
    models = [model, quantise(model, activation_ranges(model, images))]
    places = [saved(model, tmp_path / f"{number}.onnx") for number, model in enumerate(models)]
    steps = tuple(Step(number, "outputs", 0, 1) for number in range(len(models)))
    timed = program.run(program.manifest(*places, steps=steps, seed=5), tmp_path).timed()
    for model, found in zip(models, timed, strict=True):
        assert same(outputs(found, tmp_path), expected(model, seed=5))
        assert np.ptp(outputs(found, tmp_path)[0]) > 0


@pytest.mark.parametrize("level", ["all", "disabled"])
def test_at_every_level_and_with_two_threads(level, program: Program, tmp_path: Path):
    found = answers(program, convolution(), tmp_path, level=level, threads=2)
    assert same(found, expected(convolution(), level=level, threads=2))


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_made_up_inputs_are_those_of_the_protocol(kind, seed, program: Program, tmp_path: Path):
    model = elementwise("Identity", kind, (3, 1, 1000))
    (found,) = answers(program, model, tmp_path, seed=seed)
    wanted = made_up("in 0", (3, 1, 1000), onnx.helper.tensor_dtype_to_np_dtype(kind), seed)
    assert same([found], [wanted])
    assert abs(float(wanted.mean(dtype=np.float64))) < 0.1
    assert 0.9 < float(wanted.std(dtype=np.float64)) < 1.1


@pytest.mark.parametrize(
    "kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL]
)
def test_whole_numbers_are_made_up_as_zero(kind, program: Program, tmp_path: Path):
    (found,) = answers(program, elementwise("Identity", kind, (2, 3)), tmp_path)
    assert same([found], [np.zeros((2, 3), onnx.helper.tensor_dtype_to_np_dtype(kind))])


def test_inputs_of_other_names_are_others():
    first, second = (made_up(name, (100,), np.float32) for name in ("a", "b"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.4
    assert not np.array_equal(first, made_up("a", (100,), np.float32, seed=1))
    assert np.array_equal(first[:10], made_up("a", (10,), np.float32))


def test_half_precision_rounds_to_even_wherever_it_must(tmp_path: Path):
    """Every half-precision number, and what lies between two: the C function against numpy's."""
    import subprocess

    from android_bench.runner.compile import SOURCE

    source = f'#define main runner_main\n#include "{SOURCE}"\nuint16_t half(float v) {{ return to_half(v); }}\n'
    (tmp_path / "half.c").write_text(source, encoding="utf-8")
    compiler = "gcc"
    try:
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-w", "half.c", "-o", "half.so", "-ldl"], cwd=tmp_path, check=True
        )
    except FileNotFoundError:
        pytest.skip("there is no gcc")
    half = ctypes.CDLL(str(tmp_path / "half.so")).half
    half.argtypes, half.restype = [ctypes.c_float], ctypes.c_uint16
    exact = np.arange(0x4400, dtype=np.uint16).view(np.float16).astype(np.float32)  # 0 to 4, subnormal ones too
    middle = (exact[:-1] + exact[1:]) / 2
    near = [np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(9))]
    for values in (exact, middle, *near, -exact, -middle):
        wanted = values.astype(np.float16).view(np.uint16)
        assert [half(value) for value in values[::7].tolist()] == wanted[::7].tolist()


def test_inputs_out_of_files(program: Program, tmp_path: Path):
    model = elementwise("Add", TensorProto.FLOAT, (4, 5), inputs=2)
    given = np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32)
    given.tofile(tmp_path / "given.bin")
    onnx.save(model, tmp_path / "m.onnx")
    place = Model(str(tmp_path / "m.onnx"), {"in 1": str(tmp_path / "given.bin")})
    (timed,) = program.run(program.manifest(place, steps=ONCE), tmp_path).timed()
    assert same(outputs(timed, tmp_path), [made_up("in 0", (4, 5), np.float32) + given])


@pytest.mark.parametrize("free", [{}, {"batch": 3}, {"batch": 2, "side": 7, "nobody's": 9}])
def test_free_dimensions_by_name(free, program: Program, tmp_path: Path):
    model = convolution("side", batch="batch")
    onnx.save(model, tmp_path / "m.onnx")
    manifest = program.manifest(Model(str(tmp_path / "m.onnx"), free=free), steps=ONCE)
    (timed,) = program.run(manifest, tmp_path).timed()
    (found,) = outputs(timed, tmp_path)
    side = free.get("side", 1)
    assert found.shape == (free.get("batch", 1), 32, side, side)
    assert same([found], expected(model, free=free))


def test_several_outputs_and_odd_names(program: Program, tmp_path: Path):
    model = elementwise("Split", TensorProto.FLOAT, (4, 6))
    model.graph.node[0].output[:] = ['a "quoted"\\ name', "ünïcode"]
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in model.graph.node[0].output
    )
    manifest = program.manifest(saved(model, tmp_path / "m.onnx"), steps=ONCE)
    (timed,) = program.run(manifest, tmp_path).timed()
    assert [output.name for output in timed.tensors] == ['a "quoted"\\ name', "ünïcode"]
    assert timed.outputs == ("output-0-0.bin", "output-0-1.bin")
    assert same(outputs(timed, tmp_path), expected(model))
