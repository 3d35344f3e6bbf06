"""One episode as the authors' code plays it, written from its description in ALGORITHM.md, to compare costs with.

At every step the input channels with the largest L1 norm stay, scikit-learn fits the layer's original outputs Y by what
is left of its original inputs X, and the answer is written, with zeros, into the full-size PyTorch network. At the end
the masked full-size network is evaluated. Left out, in its favour: hooks that it forgets to remove, decoding of images.

Three choices make its mathematics equal to ours, so that the logits can be compared. The fit has an intercept, which is
taken off the running mean of the BatchNorm that follows. The L1 norm is that of the weights times the scale of that
BatchNorm, as in a network whose BatchNorms are folded. Where rows are fewer than unknowns, `_fit` says what is fitted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from torch import nn

BATCH = 50
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step:
    """One 1x1 convolution or linear layer with sampled rows: inputs (rows, in) and original outputs (rows, out)."""

    name: str
    norm: str | None  # the BatchNorm that follows
    inputs: Array
    outputs: Array


class ReferenceProcedure:
    """Plays episodes on a full-size PyTorch network and validation images (N, C, H, W)."""

    def __init__(self, module: nn.Module, steps: Sequence[Step], images: torch.Tensor) -> None:
        self._original = module
        self._steps = steps
        self._images = images

    def episode(self, kept: Sequence[int]) -> tuple[Array, list[NDArray[np.int64]]]:
        """Prunes step after step to `kept` input channels. Returns logits (N, classes), and each step's channels."""
        module = copy.deepcopy(self._original)
        parts = dict(module.named_modules())
        chosen = [self._prune(parts, step, width) for step, width in zip(self._steps, kept, strict=True)]
        with torch.inference_mode():
            answers = [module(batch) for batch in self._images.split(BATCH)]
        return torch.cat(answers).numpy(), chosen

    def _prune(self, parts: Mapping[str, nn.Module], step: Step, width: int) -> NDArray[np.int64]:
        layer, norm = parts[step.name], parts[step.norm] if step.norm else None
        stay = np.sort(np.argsort(-np.abs(effective_weight(layer, norm)).sum(axis=0), kind="stable")[:width])
        weight = layer.weight.detach().flatten(1).numpy()[:, stay]
        fitted, intercept = _fit(step.inputs[:, stay], step.outputs, weight)
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[:, stay] = torch.from_numpy(fitted).view(*fitted.shape, *[1] * (layer.weight.ndim - 2))
            if norm is None:
                layer.bias.copy_(intercept)
            else:
                norm.running_mean -= intercept
        return stay


def _fit(inputs: Array, outputs: Array, weight: Array) -> tuple[Array, torch.Tensor]:
    """Weight (out, kept) and intercept (out,).

    With fewer rows than unknowns there are many best answers. scikit-learn gives the smallest, ours is the nearest to
    the old `weight`: the smallest change. So that both give the same, here it is the change that is fitted then.
    """
    underdetermined = len(inputs) < inputs.shape[1]
    fit = LinearRegression().fit(inputs, outputs - inputs @ weight.T if underdetermined else outputs)
    fitted = fit.coef_ + weight if underdetermined else fit.coef_
    return fitted.astype(np.float32), torch.from_numpy(np.asarray(fit.intercept_, np.float32))


def effective_weight(layer: nn.Module, norm: nn.Module | None) -> NDArray[np.float64]:
    """The layer's weight (out, in), each output times the scale of the BatchNorm behind it."""
    weight = layer.weight.detach().double().flatten(1)
    if norm is not None:
        weight = weight * (norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps))[:, None]
    return weight.detach().numpy()


def sample_rows(
    module: nn.Module, norms: Mapping[str, str | None], images: torch.Tensor, points: int, seed: int
) -> list[Step]:
    """One Step for each layer in `norms` (layer -> its BatchNorm), from `points` output positions of every image.

    Layer number i draws its positions from the generator [seed, i], image by image, as amc_mobile.prune.gram does.
    """
    parts = dict(module.named_modules())
    rows = {name: ([], []) for name in norms}
    generators = {name: np.random.default_rng([seed, index]) for index, name in enumerate(norms)}

    def record(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            before, after = _by_position(inputs[0]), _by_position(output)
            available = before.shape[2]
            for image in range(len(before)):
                positions = generators[name].choice(available, min(points, available), replace=False)
                rows[name][0].append(before[image][:, positions].T.numpy())
                rows[name][1].append(after[image][:, positions].T.numpy())

        return hook

    handles = [parts[name].register_forward_hook(record(name)) for name in norms]
    with torch.inference_mode():
        for batch in images.split(BATCH):
            module(batch)
    for handle in handles:
        handle.remove()
    return [Step(name, norms[name], np.concatenate(x), np.concatenate(y)) for name, (x, y) in rows.items()]


def _by_position(tensor: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) or (N, C) as (N, C, positions)."""
    return tensor.reshape(*tensor.shape[:2], -1)
