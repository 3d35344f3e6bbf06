"""package.module:function of the current directory, and everything that can be wrong with it."""

from __future__ import annotations

import sys

import pytest

from amc_mobile.errors import ConfigError
from amc_mobile.models.zoo import find, load_module

CODE = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, channels=3, classes=4):
        super().__init__()
        self.conv = nn.Conv2d(channels, classes, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))

def plain():
    return Small()

def shaped():
    net = Small(1, 7)
    net.input_shape = (1, 28, 28)
    return net

def prepared():
    net = Small()
    net.preprocessing = {"resize": 40, "crop": 32, "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}
    return net

def oblong():
    net = Small()
    net.input_shape = (3, 32, 48)
    return net

def strange():
    net = Small()
    net.preprocessing = "imagenet"
    return net

def number():
    return 7

def needs(argument):
    return Small()

def two_channels():
    return Small(2)

def maps():
    return nn.Conv2d(3, 4, 3)

constant = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with mynets.py that is the current one."""
    (tmp_path / "mynets.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("raise OSError('no licence')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("mynets", "broken"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("here")
def test_a_plain_network_is_taken_for_an_imagenet_one():
    entry = find("mynets:plain")
    assert (entry.input_shape, entry.classes, entry.preprocessing.resize) == ((3, 224, 224), 4, 256)
    assert not load_module(entry, None).training


@pytest.mark.usefixtures("here")
def test_attributes_say_what_the_network_reads():
    shaped, prepared = find("mynets:shaped"), find("mynets:prepared")
    assert (shaped.input_shape, shaped.classes, len(shaped.preprocessing.mean)) == ((1, 28, 28), 7, 1)
    assert (prepared.input_shape, prepared.preprocessing.mean) == ((3, 32, 32), (0.5, 0.5, 0.5))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mynets:", "is not package.module:function"),
        ("nowhere.at_all:build", "cannot import nowhere.at_all .*ModuleNotFoundError"),
        ("broken:build", "cannot import broken .*OSError: no licence"),
        ("mynets:missing", "mynets has no function 'missing'"),
        ("mynets:constant", "mynets has no function 'constant'"),
        ("mynets:number", "returned int"),
        ("mynets:needs", "failed: TypeError: .*it must run without arguments"),
        ("mynets:two_channels", "does not run on an input of shape .*set its attribute input_shape"),
        ("mynets:maps", r"answers \(1, 4, 222, 222\)"),
        ("mynets:oblong", "square images only"),
        ("mynets:strange", "preprocessing is a str"),
    ],
)
def test_mistakes_are_one_clear_line(name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        find(name)
    assert "\n" not in str(caught.value)
