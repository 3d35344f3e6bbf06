"""From a PyTorch module to the one ONNX graph that is profiled, searched, pruned and shipped."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import nn

from amc_mobile.errors import GraphError
from amc_mobile.export.constants import drop_unused, fold_constants
from amc_mobile.export.fold import fold_batch_norms, module_of
from amc_mobile.export.sequences import split_sequences
from amc_mobile.export.tensor_types import record_types
from amc_mobile.models.answer import logits_of

_OPSET = 20
_LAYERS = ("Conv", "Gemm", "MatMul")


def export(module: nn.Module, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """The module in eval mode as an ONNX graph for one image: input "input" (1, *input_shape), output "logits".

    Batch normalisations are folded where a convolution or linear layer directly precedes them. Initialisers are named
    as the module's parameters, a folded layer's bias `<layer>.bias`; layers' nodes are named as their modules. All
    shapes are static, every tensor's type is recorded. Metadata: "amc.folded" is JSON {layer: batch norm},
    "amc.transposed" and "amc.stretched" are JSON {initialiser: parameter} for parameters that the graph stores
    transposed, or with other axes of length one.
    Raises: GraphError if the module cannot be exported.
    """
    model = _trace(module, input_shape)
    parameters = {tensor.name for tensor in model.graph.initializer}
    stored = fold_constants(model)
    if any(node.op_type in ("Shape", "CastLike") for node in model.graph.node):  # the exporter left types out
        record_types(model)
        stored = stored.then(fold_constants(model))
    split_sequences(model)
    _drop_zero_biases(model, parameters)
    folded = fold_batch_norms(model)
    drop_unused(model)
    _name_nodes(model)
    _drop_chatter(model)
    stored = stored.among({tensor.name for tensor in model.graph.initializer})
    notes = {"amc.folded": folded, "amc.transposed": stored.transposed, "amc.stretched": stored.stretched}
    onnx.helper.set_model_props(model, {key: json.dumps(note) for key, note in notes.items()})
    record_types(model)
    return model


def parity(module: nn.Module, model: onnx.ModelProto, images: np.ndarray) -> float:
    """The largest difference between the module's and the graph's logits, relative to the largest logit.

    `images` is float32 (N, C, H, W); the module runs in eval mode.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with _eval_mode(module), torch.inference_mode():
        expected = logits_of(module(torch.from_numpy(images))).numpy()
    answered = np.concatenate([session.run(None, {"input": image[None]})[0] for image in images])
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(answered - expected).max()) / scale


def _trace(module: nn.Module, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """The exporter's graph, unoptimised: its own optimiser merges and renames biases."""
    example = torch.zeros(1, *input_shape)
    try:
        with _eval_mode(module), _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                external_data=False,
                optimize=False,
                verbose=False,
                opset_version=_OPSET,
                input_names=["input"],
            )
    except Exception as error:  # the exporter wraps whatever it meets
        reason = str(error.__cause__ or error).strip().splitlines()
        raise GraphError(
            f"cannot export {type(module).__name__} to ONNX: {reason[0] if reason else error!r}"
        ) from error
    if program is None:
        raise GraphError(f"cannot export {type(module).__name__} to ONNX: the exporter gave no program")
    model = program.model_proto
    _keep_first_output(model)
    return model


def _keep_first_output(model: onnx.ModelProto) -> None:
    """Names the first output "logits" and drops the others (auxiliary heads)."""
    del model.graph.output[1:]
    output = model.graph.output[0]
    for node in model.graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                names[position] = "logits" if name == output.name else name
    output.name = "logits"


def _drop_zero_biases(model: onnx.ModelProto, parameters: set[str]) -> None:
    """Takes out the all-zero biases that the exporter makes for layers without one."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2 and node.input[2] not in parameters:
            bias = tensors.get(node.input[2])
            if bias is not None and not numpy_helper.to_array(bias).any():
                del node.input[2]


def _name_nodes(model: onnx.ModelProto) -> None:
    """Names a layer's node after its module, every other node after the module it stands in and its operator."""
    stored = {tensor.name for tensor in model.graph.initializer}
    taken: Counter[str] = Counter()
    for node in model.graph.node:
        scopes = next((item.value for item in node.metadata_props if item.key == "pkg.torch.onnx.name_scopes"), "")
        if node.op_type in _LAYERS and node.input[1] in stored:
            name = module_of(node.input[1])
        else:
            name = "/".join(part for part in (_scope(scopes), node.op_type) if part)
        node.name = name if not taken[name] else f"{name}_{taken[name]}"
        taken[name] += 1


def _scope(scopes: str) -> str:
    """The module's name in the exporter's list "['', 'features', 'features.0', 'conv2d']": the last but one."""
    names = [name.strip(" '") for name in scopes.strip("[]").split(",")]
    return names[-2] if len(names) > 1 else ""


def _drop_chatter(model: onnx.ModelProto) -> None:
    """Removes what the exporter notes about source files and its own intermediate program."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    graph = model.graph
    for noted in (*graph.input, *graph.output, *graph.initializer, graph):
        del noted.metadata_props[:]
    del graph.value_info[:], model.metadata_props[:]
    graph.name = "main"


@contextlib.contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """The module in eval mode, and back in the modes of before."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, log lines or prints of the exporter: the user can do nothing about them."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
