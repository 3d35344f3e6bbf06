"""On a GPU the same loop learns in 16 bits and brings the network back."""

from __future__ import annotations

import json

import pytest
import torch

from amc_mobile.train.fit import fit
from tests.train.networks import IMAGES, LABELS, PLAIN, Tiny, accuracy

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16"])
def test_every_precision_learns(tmp_path, precision):
    settings = PLAIN.model_copy(
        update={"precision": precision, "ema": 0.9, "validation_images": 8, "reestimate": 16, "shift": 1, "flip": True}
    )
    module = fit(Tiny(), IMAGES, LABELS, settings, seed=1, teacher=Tiny(), record=tmp_path / "record.json")
    told = json.loads((tmp_path / "record.json").read_text())
    assert told["device"].startswith("cuda")
    assert told["precision"] in ({"bf16", "fp16"} if precision == "auto" else {precision})
    assert {tensor.device.type for tensor in module.state_dict().values()} == {"cpu"}
    assert accuracy(module) > 0.9


def test_a_finished_training_is_taken_from_its_checkpoint(tmp_path):
    settings = PLAIN.model_copy(update={"precision": "fp16", "ema": 0.9, "validation_images": 8})
    first, second = (fit(Tiny(), IMAGES, LABELS, settings, seed=1, checkpoint=tmp_path / "c.partial") for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
