"""Networks by name: their shapes, sizes and key names; the user's own; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from amc_mobile.errors import ConfigError
from amc_mobile.models.cifar_resnet import OptionAShortcut
from amc_mobile.models.zoo import find, load_module, names, preprocessing_for
from amc_mobile.sections.model import ModelConfig


def parameters(module):
    return sum(tensor.numel() for tensor in module.parameters())


def macs(module, shape):
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module.eval()(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", ["digits", "vgg_small", "plain20", "resnet20", "mobilenet_v1_0.25"])
def test_a_network_answers_logits_for_its_own_input(name):
    entry = find(name)
    with torch.inference_mode():
        logits = load_module(entry, None)(torch.zeros(2, *entry.input_shape))
    assert logits.shape == (2, entry.classes)
    assert entry.preprocessing.shape() == entry.input_shape


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet56", 853_018),
        ("plain20", 269_722),
        ("mobilenet_v1", 4_231_976),
        ("mobilenet_v1_0.75", 2_585_560),
    ],
)
def test_parameter_counts_are_the_published_ones(name, expected):
    assert parameters(find(name).build()) == expected


def test_mobilenet_v1_costs_what_the_paper_says():
    assert macs(find("mobilenet_v1").build(), (3, 224, 224)) == 568_740_352


def test_digits_has_the_blocks_that_pruning_must_cope_with():
    module = find("digits").build()
    convolutions = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
    assert any(part.groups == part.in_channels > 1 for part in convolutions)
    assert 5e7 < macs(module, (1, 32, 32)) < 2e8


def test_key_names_are_those_of_the_usual_ports():
    assert {"model.0.0.weight", "model.13.4.running_mean", "fc.bias"} <= find(
        "mobilenet_v1"
    ).build().state_dict().keys()
    keys = find("resnet20").build().state_dict().keys()
    assert {"conv1.weight", "bn1.bias", "layer3.2.conv2.weight", "layer2.0.bn1.running_var", "linear.weight"} <= keys
    assert not any("shortcut" in key for key in keys)


def test_every_name_is_found():
    for name in names():
        entry = find(name)
        assert entry.name == name
        assert entry.preprocessing.shape() == entry.input_shape
    assert find("inception_v3").input_shape == (3, 299, 299)
    assert find("mobilenet_v2").preprocessing.resize == 256
    assert find("efficientnet_b0").preprocessing.interpolation == "bicubic"
    assert find("mobilenet_v1_1.3").classes == 1000


@pytest.mark.parametrize(
    ("name", "near"), [("mobilnet_v2", "mobilenet_v2"), ("resnet-56", "resnet56"), ("digit", "digits")]
)
def test_an_unknown_name_gets_a_suggestion(name, near):
    with pytest.raises(ConfigError, match=f"did you mean .*{near}"):
        find(name)


def test_a_name_like_no_other_gets_advice():
    with pytest.raises(ConfigError, match=r"package.module:function"):
        find("zzzzzz")


def test_a_width_without_channels_is_refused():
    with pytest.raises(ConfigError, match=r"width of 0.01"):
        find("mobilenet_v1_0.01")


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone():
    entry = find("digits")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = load_module(entry, None)
    assert torch.equal(torch.rand(3), expected)
    second = load_module(entry, None)
    assert not first.training
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@given(st.integers(1, 5), st.integers(0, 4), st.integers(0, 4), st.sampled_from([1, 2]))
def test_the_shortcut_pads_and_skips_pixels(channels, before, after, stride):
    shortcut = OptionAShortcut(2, 9, 9)
    shortcut.stride, shortcut.pad_before, shortcut.pad_after = stride, before, after  # as pruning does
    x = torch.randn(2, channels, 6, 6)
    expected = np.pad(x.numpy()[:, :, ::stride, ::stride], ((0, 0), (before, after), (0, 0), (0, 0)))
    np.testing.assert_array_equal(shortcut(x).numpy(), expected)


def test_the_config_may_give_its_own_normalisation():
    entry = find("mobilenet_v2")
    assert preprocessing_for(entry, ModelConfig(name="mobilenet_v2")) == entry.preprocessing
    changed = preprocessing_for(entry, ModelConfig(name="mobilenet_v2", mean=[0.5] * 3, std=[0.5] * 3))
    assert (changed.mean, changed.std, changed.crop) == ((0.5,) * 3, (0.5,) * 3, 224)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"mean": [0.5]}, "model.mean has 1 values"), ({"std": [0.5, 0.0, 0.5]}, "model.std must be positive")],
)
def test_a_normalisation_that_does_not_fit_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        preprocessing_for(find("mobilenet_v2"), ModelConfig(name="mobilenet_v2", **values))
