"""The report of a transfer: the same numbers in words, table and page, whatever was compared."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from amc_mobile.errors import RunFolderError
from amc_mobile.measurements import DeviceInfo
from amc_mobile.report.transfer import (
    read_transfer,
    sentence,
    transfer_lines,
    transfer_table,
    write_transfer_report,
)
from amc_mobile.runs import write_json
from amc_mobile.transfers import Contender, Gap, TransferResult
from tests.report.pages import Page

DEVICE = DeviceInfo(
    name="host",
    model="A <Processor>",
    os="Linux",
    runtime="onnxruntime 1.32.0",
    provider="CPUExecutionProvider",
    precision="fp32",
    threads=1,
    optimisation="all",
)


def contender(name, top1, latency_us=None, speedup=None):
    mean = sum(top1) / len(top1)
    return Contender(
        name=name,
        top1=top1,
        top1_ci=(mean - 0.01, mean + 0.01),
        macs=20_000_000,
        params=100_000,
        bytes=400_000,
        parity=1e-6,
        seconds=3.0,
        folder="runs/a/transfer/b",
        latency_us=latency_us,
        speedup=speedup,
        speedup_ci=None if speedup is None else (speedup - 0.1, speedup + 0.1),
    )


RESULT = TransferResult(
    schema=1,
    model="resnet20",
    run="runs/a",
    data="flowers & <trees>.npz",
    classes=5,
    train_images=2000,
    test_images=10_000,
    epochs=8,
    seeds=(0, 1),
    contenders=(
        contender("pruned", (0.90, 0.91), 1000.0, 1.5),
        contender("original", (0.905, 0.915), 1500.0, 1.0),
        contender("uniform", (0.88, 0.884), 1100.0, 1.36),
    ),
    gaps=(Gap("original", (-0.005, -0.005), (-0.011, 0.002)), Gap("uniform", (0.02, 0.026), (0.015, 0.03))),
    device=DEVICE,
)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "config.toml").write_text('out = "<here>"\n', encoding="utf-8")
    write_json(tmp_path / "transfer.json", RESULT)
    return tmp_path / "transfer.json"


def test_what_is_written_is_read_back(path):
    assert read_transfer(path) == RESULT


def test_the_sentence_claims_no_difference_that_does_not_show():
    said = sentence(RESULT).replace("\N{NO-BREAK SPACE}", " ")
    assert said == (
        "On 10,000 test images of 5 classes the pruned resnet20 answers 90.5 % right; no difference from the original "
        "shows (−1.1 to 0.2 points); 2.3 points more than uniform pruning."
    )
    worse = replace(RESULT, gaps=(Gap("original", (-0.03,), (-0.04, -0.02)),))
    assert sentence(worse).replace("\N{NO-BREAK SPACE}", " ").endswith("; 3.0 points less than the original.")


def test_the_table_is_ascii_and_shows_what_there_is(path):
    table = transfer_table(RESULT)
    assert all(cell.isascii() for row in table for cell in row)
    assert table[1][:2] == ("pruned", "90.5 % (89.5 to 91.5)")
    assert table[3][2] == "+2.3 points (1.5 to 3.0)"
    assert table[1][-1] == "1.50x (1.40-1.60)"
    assert table[2][-1] == "-"
    alone = replace(RESULT, contenders=(contender("pruned", (0.9,)),), gaps=(), device=None, seeds=(0,))
    assert transfer_table(alone)[0] == ("network", "top-1 (95 %)", "MACs", "parameters")
    assert all(line.isascii() for line in transfer_lines(RESULT, path.parent))


def test_an_emulator_is_called_one(path):
    emulated = replace(RESULT, device=replace(DEVICE, emulated=True))
    assert any(line.startswith("EMULATED") for line in transfer_lines(emulated, path.parent))
    write_json(path, emulated)
    assert "Emulated device" in write_transfer_report(path).read_text(encoding="utf-8")


@pytest.mark.parametrize("timed", [True, False])
def test_the_page_is_whole_and_escaped(path, timed):
    if not timed:
        untimed = tuple(replace(each, latency_us=None, speedup=None, speedup_ci=None) for each in RESULT.contenders)
        write_json(path, replace(RESULT, contenders=untimed, device=None))
    text = write_transfer_report(path).read_text(encoding="utf-8")
    assert Page(text).faults == []
    assert "flowers &amp; &lt;trees&gt;.npz" in text
    assert "&lt;here&gt;" in text
    assert ("<figure" in text) is timed
    assert ("--no-bench" in text) is not timed
    assert "Seed by seed: pruned 90.0" in text
    assert text == write_transfer_report(path).read_text(encoding="utf-8")


@pytest.mark.parametrize("change", [{"schema": 9}, {"contenders": 3}, {"gaps": [{"against": "x"}]}])
def test_a_damaged_file_is_one_line(path, change):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunFolderError) as caught:
        read_transfer(path)
    assert "\n" not in str(caught.value)
