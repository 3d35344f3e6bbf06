"""The reader of the runner's lines: it takes them in any pieces, and nothing else, in bounded memory."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.errors import DeviceError
from android_bench.runner import events
from android_bench.runner.compile import HERE
from android_bench.runner.events import Begun, Done, EventReader, Failed, Hello, Output, Timed

HELLO = {
    "event": "hello",
    "protocol": 1,
    "runner": "1",
    "onnxruntime": "1.32.0",
    "api": 14,
    "abi": "arm64-v8a",
    "providers": ["CPUExecutionProvider"],
    "cores": [6, 7],
    "clock": "thread",
}
TIMED = {
    "event": "timed",
    "step": 3,
    "load_us": 5.5,
    "samples": {"khz 7": "1"},
    "first_run_us": 7,
    "warmups_us": [1.5],
    "values_us": [1.0, 2],
    "peak_bytes": 7,
    "profile": "profile-3_x.json",
    "nodes_per_provider": {"CPUExecutionProvider": 2},
    "optimised": "optimised-3.onnx",
    "outputs": [{"name": "y", "type": "float32", "shape": [1, 2], "file": "output-3-0.bin"}],
}
FAILED = {"event": "failed", "step": None, "code": "library", "message": "“no”"}
ALL = [HELLO, {"event": "begun", "step": 3}, TIMED, FAILED, {"event": "done"}]
READ = [
    Hello("1", "1.32.0", "arm64-v8a", ("CPUExecutionProvider",), (6, 7), "thread"),
    Begun(3),
    Timed(
        3,
        5.5,
        7.0,
        (1.5,),
        (1.0, 2.0),
        7,
        {"khz 7": "1"},
        {"CPUExecutionProvider": 2},
        "profile-3_x.json",
        "optimised-3.onnx",
        (Output("y", "float32", (1, 2), "output-3-0.bin"),),
    ),
    Failed(None, "library", "“no”"),
    Done(),
]


def lines(*said: object) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in said)


@given(st.lists(st.integers(0, len(lines(*ALL))), max_size=20).map(sorted))
def test_lines_may_come_in_any_pieces(cuts: list[int]):
    text, reader, found = lines(*ALL), EventReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        found += reader.feed(text[start:end])
    reader.close()
    assert found == READ


def test_the_files_of_outputs():
    (timed,) = EventReader().feed(lines(TIMED))
    assert isinstance(timed, Timed)
    assert timed.outputs == ("output-3-0.bin",)


def test_what_need_not_be_said_need_not_be_said():
    least = {key: TIMED[key] for key in ("event", "step", "load_us", "first_run_us", "warmups_us", "values_us")}
    (timed,) = EventReader().feed(lines({**least, "some later key": 1}))
    assert timed == Timed(3, 5.5, 7.0, (1.5,), (1.0, 2.0))


def test_the_examples_of_the_protocol_are_lines_of_it():
    text = (HERE / "PROTOCOL.md").read_text(encoding="utf-8")
    examples = re.findall(r'^    (\{"event".*?\})$', text, re.MULTILINE | re.DOTALL)
    rest = '"load_us":1,"first_run_us":1,"warmups_us":[],"values_us":[1]'
    for example in examples:
        EventReader().feed(example.replace("\n", " ").replace("...", rest, 1).encode() + b"\n")
    assert len(examples) == 7


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"error: only position independent executables",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"event":"hello"}',
        b'{"event":["done"]}',
        b'{"event":"begun","step":-1}',
        b'{"event":"begun","step":true}',
        b'{"event":"begun","step":1.0}',
        b'{"event":"begun","step":99999999999999999999999999}',
        b'{"event":"begun","step":' + b"9" * 5000 + b"}",
        b'{"event":"failed","step":1,"code":2,"message":"x"}',
        b"[" * 100_000,
        json.dumps({**HELLO, "protocol": 2}).encode(),
        json.dumps({**TIMED, "load_us": -1}).encode(),
        json.dumps({**TIMED, "load_us": "1"}).encode(),
        json.dumps({**TIMED, "values_us": [float("nan")]}).encode(),
        json.dumps({**TIMED, "values_us": [float("inf")]}).encode(),
        json.dumps({**TIMED, "values_us": 3}).encode(),
        json.dumps({**TIMED, "values_us": [1]}).replace("[1]", "[1e999]").encode(),
        json.dumps({**TIMED, "samples": []}).encode(),
        json.dumps({**TIMED, "profile": "../../etc/passwd"}).encode(),
        json.dumps({**TIMED, "optimised": ".."}).encode(),
        json.dumps({**TIMED, "outputs": ["a"]}).encode(),
    ],
)
def test_anything_else_is_garbage(line: bytes):
    with pytest.raises(DeviceError, match="answers garbage") as caught:
        EventReader().feed(line + b"\n")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_half_a_surrogate_pair_becomes_text():
    (failed,) = EventReader().feed(b'{"event":"failed","step":1,"code":"run","message":"\\ud800x"}\n')
    assert failed == Failed(1, "run", "?x")


def test_a_torn_last_line_is_told():
    reader = EventReader()
    reader.feed(b'{"event":"done"')
    with pytest.raises(DeviceError, match="middle of a line"):
        reader.close()


def test_endless_lines_and_endless_output_are_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "MOST_LINE_BYTES", 1000)
    monkeypatch.setattr(events, "MOST_BYTES", 5000)
    reader = EventReader()
    reader.feed(b"x" * 900)
    with pytest.raises(DeviceError, match="one line of it"):
        reader.feed(b"x" * 200)
    reader = EventReader()
    with pytest.raises(DeviceError, match="more than"):
        for _ in range(1000):
            reader.feed(b'{"event":"done"}\n')


@given(st.lists(st.binary(max_size=60) | st.sampled_from([lines(line) for line in ALL]), max_size=8))
def test_any_bytes_give_events_or_one_line(pieces: list[bytes]):
    reader = EventReader()
    try:
        for piece in pieces:
            for event in reader.feed(piece):
                assert isinstance(event, Hello | Begun | Timed | Failed | Done)
        reader.close()
    except DeviceError as error:
        assert "\n" not in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(ALL), st.data())
def test_any_value_in_any_place_gives_an_event_or_one_line(said, data):
    key = data.draw(st.sampled_from(sorted(said)))
    try:
        EventReader().feed(lines({**said, key: data.draw(json_values)}))
    except DeviceError as error:
        assert "\n" not in str(error)
