"""A sweep on a Ray cluster of two nodes, each with an emulated phone; a worker is killed on the way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from amc_mobile.cli.farming import conduct, show_sweep
from amc_mobile.cli.sweeping import resolve
from amc_mobile.errors import ConfigError, DeviceError, SweepError
from amc_mobile.runs import RunFolder, read_json
from amc_mobile.sweep.settings import load, with_options
from tests.fakes import leashed
from tests.fakes.adbd import FakeAdbd, pixel
from tests.fakes.fake_runner import script

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
STORE = {"include_dashboard": False, "object_store_memory": 80_000_000}
NAMES = ("left", "right")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Two nodes on this machine; phone "left" is a resource of the first, "right" of the second."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv(leashed.FOLDER, str(tmp_path / "bundle"))
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # no token is written into anybody's home
    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets need a short path
    monkeypatch.setenv("RAY_TMPDIR", place)
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1, resources={"amc:left": 1}, **STORE)
        cluster.add_node(num_cpus=1, resources={"amc:right": 1}, **STORE)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def farm(tmp_path, monkeypatch, cluster):
    """The cluster's address and its two phones, which devices.toml in the working folder names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    daemons = {name: FakeAdbd(tmp_path / name, phone=pixel()) for name in NAMES}
    with contextlib.ExitStack() as stack:
        for daemon in daemons.values():
            stack.enter_context(daemon)
        lines = [f'[{name}]\naddress = "{daemon.address}"\n' for name, daemon in daemons.items()]
        (tmp_path / "devices.toml").write_text("".join(lines))
        yield cluster.address, daemons


@pytest.fixture
def swept(tiny, tmp_path):
    def make(**given):
        settings, base = load(tiny)
        chosen = with_options(settings, {"devices": list(NAMES), **given})
        return resolve(chosen, base, tmp_path / "sweep", None, update=False, module=leashed.__name__)

    return make


def attempts(sweep):
    return [json.loads(line) for line in sweep.jobs_file.read_text().splitlines()]


def kill_a_worker(root: Path, killed: list[str]) -> None:
    """Kills the parent of the first process that searches in this sweep: the Ray worker that started it."""
    while not killed:
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                command = (place / "cmdline").read_bytes().decode().split("\0")
                if f"{root}/configs/" in " ".join(command) and "search" in command:
                    os.kill(int(command[command.index(leashed.__name__) + 1]), signal.SIGKILL)
                    killed.append(command[command.index("run") + 1])
                    return
        time.sleep(0.1)


def test_two_nodes_two_phones(farm, swept, amc, tiny, capsys):
    address, _ = farm
    sweep = swept(budgets=[{"latency": 0.7}, {"macs": 0.6}])
    killed: list[str] = []
    threading.Thread(target=kill_a_worker, args=(sweep.root, killed), daemon=True).start()
    conduct(sweep, address)

    done = attempts(sweep)
    good = [each for each in done if each["code"] == 0]
    assert sorted(each["job"] for each in good) == sorted(job.name for job in sweep.jobs)  # each once
    lost = [each for each in done if each["code"] < 0]
    assert [Path(file).stem for file in killed] == [each["job"].split()[0] for each in lost]

    nodes = {name: {each["node"] for each in good if each["device"] == name} for name in NAMES}
    assert len(nodes["left"]) == len(nodes["right"]) == 1  # a phone is measured where it is attached
    assert nodes["left"] != nodes["right"]
    for name in NAMES:
        times = sorted((each["begun_s"], each["ended_s"]) for each in good if each["device"] == name)
        assert len(times) == 1 + 2 + 1  # table, benches, one settling
        assert all(end <= begin for (_, end), (begin, _) in pairwise(times))  # never two at a time

    table = read_json(sweep.root / "shared" / "table-left" / "table.json")
    assert table["device"]["name"] == "left"
    for point in sweep.points:
        folder = RunFolder(sweep.root / point.name)
        assert read_json(folder.comparison)["device"]["name"] == point.device
        assert read_json(folder.summary)["device"] == "Google Pixel 8"

    report = (sweep.root / "report.html").read_text()
    assert len(re.findall(r'<svg [^>]*role="img"', report)) == 2
    assert all(f"{point.name}/report.html" in report for point in sweep.points)
    capsys.readouterr()
    conduct(sweep, address)  # the same again: nothing is left to do
    assert "is complete" in capsys.readouterr().err
    assert attempts(sweep) == done
    show_sweep(sweep.root, True)
    assert '"front": true' in capsys.readouterr().out


def test_a_phone_that_fails_leaves_the_other(farm, swept, capsys):
    address, daemons = farm
    script(daemons["right"], starts={str(number): "garbage" for number in range(30)})
    sweep = swept(budgets=[{"macs": 0.6}])
    with pytest.raises(SweepError, match=r"1 of 9 jobs failed, 3 that follow from them were left out; .*same command"):
        conduct(sweep, address)
    index = {run["name"]: run for run in read_json(sweep.root / "sweep.json")["runs"]}
    assert index["left-macs0.6-s0"]["complete"]
    assert index["right-macs0.6-s0"]["problem"].startswith("shared/table-right table: ")
    assert "Not complete" in (sweep.root / "report.html").read_text()
    script(daemons["right"])
    conduct(sweep, address)
    assert read_json(RunFolder(sweep.root / "right-macs0.6-s0").summary)["speedup"] > 1.0
    assert "5 of 9 jobs are done before" in capsys.readouterr().err


def test_a_node_that_measures_a_phone_otherwise_is_not_overruled(farm, swept, monkeypatch, tmp_path):
    """The driver may know nothing of a node's devices.toml; what it does not know it would silently replace."""
    sweep = swept(devices=["left"])
    lines = (tmp_path / "devices.toml").read_text().replace("[left]", "[left]\nthreads = 4")
    (tmp_path / "devices.toml").write_text(lines)
    with pytest.raises(ConfigError, match=r"says threads = 4, and this sweep 1: make them equal, with device\.threads"):
        conduct(sweep, farm[0])
    assert not sweep.jobs_file.exists()


def test_jobs_that_fit_no_node_are_refused(farm, swept):
    with pytest.raises(ConfigError, match=r"claims 8 core\(s\) and 0 GPU\(s\).*largest: 1 and 0\); lower sweep\.cpus"):
        conduct(swept(cpus=8), farm[0])


def test_a_phone_that_no_node_has(farm, swept):
    sweep = swept(devices=["left", "middle"])
    with pytest.raises(DeviceError, match=r"no node of the cluster has middle .*amc devices --ray"):
        conduct(sweep, farm[0])
