"""Calibration: sampled moments are those of the network's own tensors, reproducible, and survive the disk."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from amc_mobile.errors import DataError, GraphError, RunFolderError
from amc_mobile.graph.batch import with_batch
from amc_mobile.graph.trace import trace
from amc_mobile.prune import gram
from amc_mobile.prune.gram import Grams, collect
from amc_mobile.prune.layout import problems
from tests.graph.builders import Builder
from tests.prune.networks import branches, chain, grams_of, images, residual


def tensors(traced, names, data):
    model = onnx.ModelProto()
    model.CopyFrom(traced.model)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [
        np.concatenate(parts) for parts in zip(*(session.run(names, {"input": x[None]}) for x in data), strict=True)
    ]


@pytest.mark.parametrize("build", [chain, residual, branches])
def test_moments_explain_every_output(build):
    """[X 1]ᵀY = G [W; b], where all positions are sampled: sums and squares of the outputs follow from G alone."""
    traced, data = build(), images(build(), 6)
    grams = collect(traced, data, 10_000, seed=0, threads=1)
    found = problems(traced)
    assert set(grams.layers) == {problem.name for problem in found} != set()
    outputs = tensors(traced, [problem.layers[0].output for problem in found], data)
    for problem, output in zip(found, outputs, strict=True):
        extended = np.vstack([problem.matrix(traced), traced.weight(problem.biases[0])])
        matrix = grams.layers[problem.name].gram()
        flat = output.reshape(*output.shape[:2], -1).astype(np.float64)
        assert grams.layers[problem.name].rows == flat.shape[0] * flat.shape[2]
        np.testing.assert_allclose((matrix @ extended)[-1], flat.sum(axis=(0, 2)), rtol=1e-4, atol=1e-2)
        squares = np.einsum("ko,kj,jo->o", extended, matrix, extended)
        np.testing.assert_allclose(squares, np.square(flat).sum(axis=(0, 2)), rtol=1e-4)


def same(one: Grams, other: Grams) -> bool:
    return one.images == other.images and all(
        name in other.layers and np.array_equal(layer.gram(), other.layers[name].gram())
        for name, layer in one.layers.items()
    )


def test_the_same_seed_gives_the_same_bits():
    traced = chain()
    data = images(traced, 13)
    first = collect(traced, data, 5, seed=3, threads=1)
    assert same(first, collect(traced, data, 5, seed=3, threads=1))
    assert not same(first, collect(traced, data, 5, seed=4, threads=1))


def test_sampling_is_bounded_and_progress_is_told():
    traced, told = chain(), []
    grams = collect(traced, images(traced, 9), 5, seed=0, threads=1, progress=lambda *news: told.append(news))
    assert {layer.rows for layer in grams.layers.values()} == {9 * 5, 9 * 4, 9}  # 2x2 maps give four, linear one
    assert told[-1][:2] == (9, 9)


def test_networks_that_run_one_image_at_a_time(monkeypatch):
    def one_only(model, batch):
        if batch != 1:
            raise GraphError("this network runs one image at a time")
        return with_batch(model, 1)

    traced = chain()
    expected = grams_of(traced)
    monkeypatch.setattr(gram, "with_batch", one_only)
    for name, layer in grams_of(traced).layers.items():
        np.testing.assert_allclose(layer.gram(), expected.layers[name].gram(), rtol=1e-5, atol=1e-4)


def test_nothing_to_prune_needs_nothing():
    b = Builder()
    traced = trace(b.build(b.conv("input", "only", 3, 4)), "single")
    assert not collect(traced, images(traced, 2), 5, seed=0).layers


def test_survives_the_disk(tmp_path):
    grams = grams_of(chain(), 10, 4)
    assert {layer.matrix is None for layer in grams.layers.values()} == {True, False}
    grams.save(tmp_path / "gram.npz")
    loaded = Grams.load(tmp_path / "gram.npz")
    assert same(grams, loaded) and same(loaded, grams)


def test_a_damaged_file_is_one_clear_error(tmp_path):
    path = tmp_path / "gram.npz"
    with pytest.raises(RunFolderError, match="cannot read"):
        Grams.load(path)
    grams_of(residual()).save(path)
    whole = path.read_bytes()
    for bad in (whole[: len(whole) // 2], b"", b"PK\x03\x04" + whole[4:200]):
        path.write_bytes(bad)
        with pytest.raises(RunFolderError, match=r"gram\.npz"):
            Grams.load(path)


def test_moments_that_are_no_numbers_are_refused(tmp_path):
    grams = grams_of(residual())
    next(layer for layer in grams.layers.values() if layer.matrix is not None).matrix[0, 0] = np.nan
    grams.save(tmp_path / "gram.npz")
    with pytest.raises(RunFolderError, match="not finite"):
        Grams.load(tmp_path / "gram.npz")


def test_foreign_schema_is_refused(tmp_path, monkeypatch):
    grams = grams_of(residual())
    monkeypatch.setattr(gram, "SCHEMA", 99)
    grams.save(tmp_path / "gram.npz")
    monkeypatch.undo()
    with pytest.raises(RunFolderError, match="schema 99"):
        Grams.load(tmp_path / "gram.npz")


def test_infinite_activations_are_one_clear_error():
    traced = chain()
    data = images(traced, 3)
    data[1, 0, 2, 2] = np.nan
    with pytest.raises(DataError, match="not finite"):
        collect(traced, data, 100, seed=0)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (4, 3, 9, 8), (4, 1, 8, 8)])
def test_images_that_do_not_fit(shape):
    with pytest.raises(DataError, match="calibration images"):
        collect(chain(), np.zeros(shape, np.float32), 5, seed=0)


def test_a_transformer_with_a_class_token_is_calibrated_image_by_image():
    b = Builder(channels=3, size=4)
    rows = b.op("Transpose", b.op("Reshape", b.conv("input", "patch", 3, 6), b.ints(1, 6, 16)), perm=[0, 2, 1])
    token = b.constant("token", b.random.standard_normal((1, 1, 6)).astype(np.float32))
    rows = b.op("Concat", token, rows, axis=1)
    up = b.op("Relu", b.op("MatMul", rows, b.constant("up.weight", np.ones((6, 10), np.float32))))
    down = b.op("MatMul", up, b.constant("down.weight", np.ones((10, 6), np.float32)))
    traced = trace(b.build(b.op("ReduceMean", down, b.ints(1), keepdims=0)), "tokens")
    with pytest.raises(GraphError):
        with_batch(traced.model, 1)
    assert grams_of(traced, 3, 5).layers["down.weight"].rows == 3 * 5
