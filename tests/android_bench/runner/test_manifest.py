"""Manifests: what is written is what is read, and nothing is written that the runner would refuse."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.errors import DeviceError
from android_bench.runner.manifest import Manifest, Model, Step, parse

PLAIN = Manifest("/l.so", (Model("/m.onnx"),), (Step(0, "time", 1, 2),))

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\t\0"), min_size=1, max_size=20)
pairs = st.dictionaries(words, words, max_size=3)
seconds = st.integers(0, 86_400_000_000).map(lambda number: number / 1_000_000)
models = st.builds(Model, words, pairs, st.dictionaries(words, st.integers(1, 2**31 - 1), max_size=2))


@st.composite
def manifests(draw) -> Manifest:
    chosen = tuple(draw(st.lists(models, min_size=1, max_size=4)))
    step = st.builds(
        Step,
        st.integers(0, len(chosen) - 1),
        st.sampled_from(["time", "profile", "outputs"]),
        st.integers(0, 100_000),
        st.integers(1, 1_000_000),
        seconds,
        seconds | st.just(math.inf),
        st.integers(1, 1_000_000),
        st.booleans(),
        st.booleans(),
    )
    return Manifest(
        draw(words),
        chosen,
        tuple(draw(st.lists(step, max_size=5))),
        draw(st.integers(1, 1024)),
        draw(st.sampled_from(["all", "extended", "basic", "disabled"])),
        draw(words),
        draw(pairs),
        draw(pairs),
        tuple(draw(st.lists(st.integers(0, 1023), max_size=3))),
        draw(st.sampled_from(["wall", "thread"])),
        draw(st.integers(0, 2**64 - 1)),
        draw(pairs),
    )


@given(manifests())
def test_what_is_written_is_what_is_read(manifest: Manifest):
    assert parse(manifest.text()) == manifest


def test_the_text_is_as_the_protocol_says():
    assert PLAIN.text().splitlines() == [
        "amc-runner 1",
        "library /l.so",
        "threads 1",
        "level all",
        "provider cpu",
        "clock wall",
        "seed 0",
        "model /m.onnx",
        "step 0 time warmups=1 runs=2 min_time_s=0.000000",
        "end",
    ]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"library": "/a\nmodel /etc/passwd"}, "line break"),
        ({"library": ""}, "no empty text"),
        ({"library": "/\udcff"}, "no UTF-8"),
        ({"provider": "a\tb"}, "tab"),
        ({"samples": {"a\tb": "/c"}}, "tab"),
        ({"threads": 0}, "threads is 0"),
        ({"level": "most"}, "no level 'most'"),
        ({"clock": "sun"}, "no clock 'sun'"),
        ({"cores": (-1,)}, "core is -1"),
        ({"seed": 2**64}, "seed is"),
        ({"steps": (Step(1, "time", 0, 1),)}, "model of a step is 1"),
        ({"steps": (Step(0, "sleep", 0, 1),)}, "no step 'sleep'"),
        ({"steps": (Step(0, "time", 0, 0),)}, "runs is 0"),
        ({"steps": (Step(0, "time", 100_001, 1),)}, "warmups is 100001"),
        ({"steps": (Step(0, "time", 0, 1, math.nan),)}, "min_time_s is nan"),
        ({"steps": (Step(0, "time", 0, 1, -1.0),)}, "min_time_s is -1"),
    ],
)
def test_what_the_runner_would_refuse_is_not_written(change, what):
    with pytest.raises(DeviceError, match=what):
        replace(PLAIN, **change).text()


@given(
    st.text(max_size=200)
    | st.lists(words, max_size=6).map(lambda lines: "\n".join(["amc-runner 1", *lines, "end", ""]))
)
def test_no_other_text_is_a_manifest(text: str):
    with pytest.raises(DeviceError):
        parse(text)


@given(st.data())
def test_a_damaged_manifest_is_refused_or_another_one(data):
    text = data.draw(manifests()).text()
    place = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:place] + data.draw(st.text(max_size=3)) + text[place + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(DeviceError):
        assert isinstance(parse(damaged), Manifest)
