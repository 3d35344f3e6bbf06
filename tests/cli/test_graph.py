"""`amc graph`: every group with all of its members, pinned ones with the reason, layers pinned by hand."""

from __future__ import annotations

import pytest

USER = 1


@pytest.fixture(scope="module")
def file(tmp_path_factory, exported):
    path = tmp_path_factory.mktemp("graph") / "digits.onnx"
    path.write_bytes(exported("digits").SerializeToString())
    return path


def test_every_group_and_every_member_is_shown(amc, file):
    shown, text = amc("graph", file, "--json").json(), amc("graph", file).out
    depthwise = [layer["name"] for layer in shown["layers"] if layer["kind"] == "depthwise"]
    assert sorted(name for group in shown["groups"] for name in group["depthwise"]) == sorted(depthwise)
    for group in shown["groups"]:
        state = "prunable" if group["prunable"] else f"pinned: {group['reason']}"
        assert f"{group['name']}: {group['channels']} channel" in text and state in text
        for name in (*group["producers"], *group["consumers"], *group["depthwise"]):
            assert name in text.replace(",", " ").split()


def test_layers_can_be_pinned_by_hand(amc, file):
    free = [group for group in amc("graph", file, "--json").json()["groups"] if group["prunable"]]
    first, last = free[0], free[-1]
    line = ("--skip", first["producers"][0], "--skip", last["producers"][0])
    groups = {group["name"]: group for group in amc("graph", file, "--json", *line).json()["groups"]}
    assert groups[first["name"]]["reason"] == groups[last["name"]]["reason"] == "skipped by hand"
    refused = amc("graph", file, "--skip", "nothing")
    assert refused.code == USER
    assert refused.last_line == "amc: no layer is called nothing; type `amc graph digits` to see their names"
