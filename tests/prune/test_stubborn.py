"""What a module's own code insists on is pinned before anything is searched, and nothing else is."""

from __future__ import annotations

import json

import torch

from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.prune.stubborn import pin_stubborn
from tests.networks.user import SHAPE, PaddedShortcuts, Residuals, Stubborn


def notes(model) -> list[list]:
    return json.loads(next((item.value for item in model.metadata_props if item.key == "amc.pinned"), "[]"))


def test_code_that_spells_out_its_channels_is_found() -> None:
    torch.manual_seed(0)
    module = Stubborn().eval()
    free = trace(export(module, SHAPE), "free").network
    pinned = pin_stubborn(module, export(module, SHAPE))
    network = trace(pinned, "stubborn").network
    assert {group.name for group in free.prunable()} >= {"stem.0", "free.0", "parts.0", "left", "cut"}
    assert [group.name for group in network.prunable()] == ["stem.0", "free.0"]
    reasons = {group.name: group.reason for group in network.groups}
    assert "its code insists on them: split_with_sizes expects" in reasons["parts.0"]
    assert "shape '[-1, 392]' is invalid" in reasons["cut"]
    assert {layer for layer, _, _ in notes(pinned)} == {"parts.0", "left", "cut"}


def test_only_the_channels_that_are_spelt_out_are_pinned() -> None:
    """Beside zero channels of a padded shortcut only those that they meet must stay, not the layer's others."""
    torch.manual_seed(0)
    module = PaddedShortcuts().eval()
    pinned = pin_stubborn(module, export(module, SHAPE))
    assert [(layer, outputs) for layer, outputs, _ in notes(pinned)] == [("wide.1.0", [0, 1, 2, 3, 12, 13, 14, 15])]


def test_a_willing_module_is_left_alone() -> None:
    torch.manual_seed(0)
    module = Residuals().eval()
    model = export(module, SHAPE)
    assert pin_stubborn(module, model) == model
