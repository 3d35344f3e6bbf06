"""The runner behind real daemons, through the command line: x86-64 as it is, arm64 in an emulator, marked as such.

An emulator shows that it works and that the numbers are right, and says nothing about speed.
"""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from amc_mobile.cli import main
from amc_mobile.cli.aliases import split_address
from amc_mobile.export.calibrate import activation_ranges
from amc_mobile.export.quantise import quantise
from android_bench.adb import Adb, Address
from android_bench.answers import answers
from android_bench.device import AndroidDevice, PhoneSettings
from android_bench.runner.inputs import made_up
from android_bench.selfcheck import selfcheck
from tests.fakes.adbd import FakeAdbd, linux
from tests.phone import counterparts
from tests.phone.conftest import had

pytestmark = pytest.mark.phone

CONFIG = """
[model]
name = "tests.phone.networks:Tiny"
[data]
search_images = 24
calibration_images = 12
test_images = 40
train_images = 64
[device]
name = "host"
[profile]
carriers = 4
rounds = 1
turns = 2
warmups = 1
runs = 5
min_time_s = 0.0
force = true
tolerance = 100.0
[budget]
macs = 0.6
[search]
episodes = 3
warmup_episodes = 1
sensitivity_points = 1
hidden = 16
random_policies = 1
round_to = 4
[prune]
importance = "l1"
[bench]
rounds = 3
warmups = 1
runs = 5
min_time_s = 0.0
"""
QUICK_CHECKS = 7  # of selfcheck; the last one waits for the clock to be steady, which is nothing to ask of an emulator


@dataclass(frozen=True)
class Machine:
    """Something that answers as a device, and how the command line is told of it."""

    address: str
    abi: str
    wrapper: tuple[str, ...] = ()

    @property
    def emulated(self) -> bool:
        return bool(self.wrapper)

    def alias(self) -> str:
        return f'[board]\naddress = "{self.address}"\nwrapper = {json.dumps(list(self.wrapper))}\n'


@pytest.fixture(
    params=["x86-64 behind adbd", "x86-64 behind adb and adbd", "arm64 behind adbd", "arm64 behind the fake"]
)
def machine(request, tmp_path, monkeypatch):
    if request.param == "x86-64 behind adbd":
        yield Machine(request.getfixturevalue("real_adbd"), "x86_64")
    elif request.param == "x86-64 behind adb and adbd":
        adb, address = request.getfixturevalue("new_adb"), request.getfixturevalue("real_adbd")
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(adb.port))
        adb.connect(address)
        yield Machine(f"server:{address}", "x86_64")
    elif request.param == "arm64 behind adbd":
        address = request.getfixturevalue("arm_adbd")
        yield Machine(address, "arm64-v8a", request.getfixturevalue("qemu"))
    else:
        qemu = request.getfixturevalue("qemu")
        here = (str(counterparts.FOLDER),)  # the emulator, which may lie below a tree of the phone's
        with FakeAdbd(tmp_path / "phone", phone=linux(machine="aarch64"), real=here) as daemon:
            yield Machine(daemon.address, "arm64-v8a", qemu)


@pytest.fixture
def device(machine):
    bundle = had(lambda: counterparts.runner(machine.abi))
    settings = PhoneSettings("board", wrapper=machine.wrapper)
    device = AndroidDevice(Adb(Address(*split_address(machine.address))), settings, lambda _abis: bundle)
    yield device
    device.close()


@pytest.fixture
def named(machine, tmp_path, monkeypatch):
    """What is typed after --device, in a working folder where that name is known."""
    had(lambda: counterparts.runner(machine.abi))
    monkeypatch.chdir(tmp_path)
    if split_address(machine.address)[0] == "tcp" and not machine.emulated:
        return machine.address
    (tmp_path / "devices.toml").write_text(machine.alias())
    return "board"


@pytest.fixture
def amc(capsys):
    def run(*words):
        capsys.readouterr()
        code = main.run([str(word) for word in words])
        said = capsys.readouterr()
        assert code == 0, said.err[-3000:]
        return json.loads(said.out)

    return run


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, config):
    """A finished run of the tiny network for this machine's own processor."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert main.run(["run", str(config), "--out", str(folder)]) == 0
    return folder


def test_selfcheck(device):
    checks = list(itertools.islice(selfcheck(device, lambda _what: None), QUICK_CHECKS))
    assert {check.question: check.answer for check in checks if not check.passed} == {}


def test_outputs_are_those_of_this_machine(device, machine, finished):
    original = onnx.load(finished / "original.onnx")
    images = np.random.default_rng(0).standard_normal((4, 1, 32, 32)).astype(np.float32)
    int8 = quantise(original, activation_ranges(original, images)).SerializeToString()
    for model in ((finished / "original.onnx").read_bytes(), (finished / "model.onnx").read_bytes(), int8):
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        inputs = {item.name: made_up(item.name, [1, *item.shape[1:]], np.float32) for item in session.get_inputs()}
        here = dict(zip((item.name for item in session.get_outputs()), session.run(None, inputs), strict=True))
        there = answers(device, model, inputs)
        for name, values in here.items():
            if machine.emulated:
                np.testing.assert_allclose(there[name], values, rtol=0, atol=1e-5 * np.abs(values).max())
            else:
                np.testing.assert_array_equal(there[name], values)


def test_profile(amc, named, machine, config, tmp_path):
    out = tmp_path / "table.json"
    words = ("--model", "tests.phone.networks:Tiny", "--config", config, "--device", named, "--out", out)
    amc("profile", *words, "--json")
    device = json.loads(out.read_text())["device"]
    assert_is(device, machine)
    assert device["node_times"]


def test_bench_and_clean(amc, named, machine, finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    facts = amc("bench", run, "--device", named, "--json")
    assert_is(facts["device"], machine)
    assert facts["latency_before_us"] > 0 and facts["latency_int8_us"] > 0 and not facts["failed"]
    report = (run / "report.md").read_text()
    assert facts["device"]["name"] in report
    assert ("emulat" in report) is machine.emulated
    amc("devices", "--clean", "--device", named, "--json")
    adb = Adb(Address(*split_address(machine.address)))
    assert adb.shell("ls -d /tmp/amc-mobile", timeout_s=20).code != 0
    adb.close()


def assert_is(device, machine):
    assert device["emulated"] is machine.emulated
    assert ("emulator" in device["details"]) is machine.emulated
    assert machine.abi in device["details"]["build"] and device["runtime"].startswith("onnxruntime ")
