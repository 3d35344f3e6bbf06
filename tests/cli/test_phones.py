"""The command line on phones: fake daemons on loopback, runners that compute their times; all between is real."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

import android_bench.bundle
from amc_mobile.cli import phones
from amc_mobile.cli.many import each
from amc_mobile.cli.open_device import check_device, open_device
from amc_mobile.cli.settings import override
from amc_mobile.config import RunConfig
from amc_mobile.errors import ConfigError, DeviceError
from amc_mobile.runs import read_json
from amc_mobile.sections.device import DeviceConfig
from android_bench.adb import Address
from android_bench.discover import Found
from tests.fakes.adbd import FakeAdbd, pixel
from tests.fakes.fake_runner import fake_bundle, script
from tests.fakes.listening import Port


@pytest.fixture
def daemon(tmp_path):
    with FakeAdbd(tmp_path / "phone", phone=pixel()) as daemon:
        yield daemon


@pytest.fixture
def second(tmp_path):
    with FakeAdbd(tmp_path / "second", phone=pixel()) as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder, a settings folder and a bundle of one's own; nothing on USB, no adb server."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr(android_bench.bundle, "bundle", lambda abi, **_: fake_bundle(tmp_path / "bundle", abi))
    monkeypatch.setattr(phones, "attached", lambda: ([], {}))
    return folder


def named(folder, **addresses: str) -> None:
    text = "".join(f'[{name}]\naddress = "{address}"\n' for name, address in addresses.items())
    (folder / "devices.toml").write_text(text)


# ---------------------------------------------------------------------------------------------------------- the names


def test_an_alias_brings_its_settings_and_options_win(here):
    (here / "devices.toml").write_text('[pixel]\naddress = "usb:8A1X"\nthreads = 4\ncores = [4, 5, 6, 7]\n')
    settings = override(RunConfig(), {"device.name": "pixel"})
    assert (settings.device.threads, settings.device.cores) == (4, [4, 5, 6, 7])
    settings = override(RunConfig(), {"device.name": "pixel", "device.threads": 2})
    assert (settings.device.threads, settings.device.cores) == (2, [4, 5, 6, 7])
    config = RunConfig.model_validate({"device": {"name": "pixel", "threads": 1}})
    assert override(config, {}).device.threads == 1  # the config says so
    assert phones.look_up("pixel").address == Address("usb", "8A1X")


def test_an_alias_may_stand_in_the_settings_folder(here, tmp_path):
    folder = tmp_path / "settings" / "amc-mobile"
    folder.mkdir(parents=True)
    (folder / "devices.toml").write_text('[old]\naddress = "10.0.0.7:5555"\n[pixel]\naddress = "usb:THEIRS"\n')
    named(here, pixel="usb:MINE")
    assert phones.look_up("old").address == Address("tcp", "10.0.0.7:5555")
    assert phones.look_up("pixel").address.serial == "MINE"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[pixel]\n", "address: Field required"),
        ('[pixel]\naddress = "usb:"\n', "must be usb:SERIAL, HOST:PORT or server:SERIAL"),
        ('[pixel]\naddress = "usb:1"\ncolour = "blue"\n', "colour"),
        ("[pixel\n", "cannot read devices.toml"),
        ('[host]\naddress = "usb:1"\n', "[host]: that name is taken"),
        ('[".."]\naddress = "usb:1"\n', "[..]: that name is taken or can be no name"),
    ],
)
def test_a_wrong_devices_file_is_one_line(here, amc, text, why):
    (here / "devices.toml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(why)):
        phones.look_up("pixel")
    answer = amc("doctor", "--device", "pixel")
    assert answer.code == 1
    assert why in answer.last_line


def test_part_of_a_models_name_finds_the_one_phone_that_has_it(monkeypatch):
    ready = Found(Address("usb", "8A1X"), "Pixel_8", "ready", "")
    galaxy = Found(Address("server", "R58M"), "SM_G991B", "ready", "")
    monkeypatch.setattr(phones, "attached", lambda: ([ready, galaxy], {}))
    assert phones.look_up("pixel").address.serial == "8A1X"
    assert phones.look_up("pixel 8").address.serial == "8A1X"
    assert phones.look_up("Pixel_8").address.serial == "8A1X"
    assert phones.look_up("") is phones.look_up(" ") is None
    assert phones.look_up("R58M").address == Address("server", "R58M")
    assert phones.look_up("iphone") is None


def test_all_are_the_phones_that_answer_each_once(here, daemon, second, monkeypatch, capsys):
    """One is plugged in and connected to over the air as well; one does not answer."""
    places = [daemon.address, second.address, f"localhost:{daemon.port}", Port.unused().address]
    found = [Found(Address("tcp", place), "Pixel_8", "ready", "") for place in places]
    monkeypatch.setattr(phones, "attached", lambda: (found, {}))
    assert phones.ready_names() == places[:2]
    told = capsys.readouterr().err
    assert f"{places[2]} is left out: it is the phone {places[0]}, reached in another way" in told
    assert f"{places[3]} is left out: nothing answers" in told
    named(here, mine=daemon.address)
    assert phones.ready_names() == ["mine", places[1]]


def test_two_phones_of_one_name_must_be_told_apart(monkeypatch):
    pair = [Found(Address("usb", serial), "Pixel_8", "ready", "") for serial in ("8A1X", "9B2Y")]
    monkeypatch.setattr(phones, "attached", lambda: (pair, {}))
    with pytest.raises(DeviceError, match=r"8A1X \(Pixel_8\); 9B2Y .*serial number"):
        phones.look_up("pixel")


def test_a_phone_that_is_not_ready_says_what_to_do(monkeypatch):
    locked = Found(Address("server", "8A1X"), "Pixel_8", "unauthorised", "unlock it and tap 'Allow'")
    monkeypatch.setattr(phones, "attached", lambda: ([locked], {}))
    with pytest.raises(DeviceError, match=r"8A1X \(unauthorised\): unlock it and tap 'Allow'"):
        check_device(DeviceConfig(name="pixel"))


def test_a_phone_on_a_cable_that_does_not_know_us_is_connected_to_so_that_it_asks(monkeypatch):
    """A scan shows no key to the phone; only a connection does, and waits for the tap."""
    new = Found(Address("usb", "8A1X"), "Pixel_8", "unauthorised", "unlock it and tap 'Allow'")
    monkeypatch.setattr(phones, "attached", lambda: ([new], {}))
    assert phones.look_up("pixel").address == new.address
    assert phones.ready_names() == []  # nobody is asked behind the user's back


def test_a_phone_that_adb_has_connected_is_reached_through_adb(monkeypatch):
    """Wireless debugging with pairing: adb speaks TLS with it, we do not."""
    paired = Found(Address("server", "192.168.1.7:43251"), "Pixel_8", "ready", "")
    monkeypatch.setattr(phones, "attached", lambda: ([paired], {}))
    assert phones.look_up("192.168.1.7:43251").address == paired.address
    assert phones.look_up("192.168.1.7:5555").address.transport == "tcp"
    stale = replace(paired, state="offline", remedy="plug it in again")
    monkeypatch.setattr(phones, "attached", lambda: ([stale], {}))
    assert phones.look_up("192.168.1.7:43251").address.transport == "tcp"


@pytest.mark.parametrize("name", ["10.0.0.7:5555", "phone.local:5555", "[fe80::1]:5555"])
def test_addresses(name):
    assert phones.look_up(name).address == Address("tcp", name)


@pytest.mark.parametrize("name", ["gpu:1", "10.0.0.7", "10.0.0.7:99999", "a b:5555", "$(reboot):5555"])
def test_no_addresses(name):
    assert phones.look_up(name) is None


@pytest.mark.parametrize(("settings", "why"), [({"precision": "fp16"}, "fp32 or int8, not in fp16")])
def test_what_no_phone_can_do_is_said_before_it_is_opened(settings, why):
    with pytest.raises(DeviceError, match=why):
        check_device(DeviceConfig(name="10.0.0.7:5555", **settings))
    with pytest.raises(DeviceError, match="xnnpack is a provider of phones"):
        check_device(DeviceConfig(name="host", provider="xnnpack"))


def test_a_phone_without_a_runner_for_its_processor(tmp_path):
    old = pixel(properties={**pixel().properties, "ro.product.cpu.abilist": "armeabi-v7a"})
    with FakeAdbd(tmp_path / "old", phone=old) as daemon:
        device = open_device(DeviceConfig(name=daemon.address))
        with pytest.raises(DeviceError, match="no runner for armeabi-v7a"):
            device.info()


# --------------------------------------------------------------------------------------------------------- the verbs


def test_devices_lists_phones_and_their_state(here, amc, daemon, second):
    named(here, pixel=daemon.address, gone=second.address)
    second.kill()
    listed = {phone["name"]: phone for phone in amc("devices", "--json").json()["phones"]}
    assert (listed["pixel"]["model"], listed["pixel"]["os"], listed["pixel"]["state"]) == (
        "Google Pixel 8",
        "Android 14",
        "ready",
    )
    assert listed["gone"]["state"] == "unreachable"
    assert listed["gone"]["remedy"]
    answer = amc("devices")
    assert "Google Tensor G3" in answer.out
    assert "gone: " in answer.err


def test_doctor_tells_of_the_phone(here, amc, daemon):
    named(here, pixel=daemon.address)
    daemon.phone.battery(percent=12)
    answer = amc("doctor", "--device", "pixel")
    assert answer.code == 0
    assert "pixel: Google Pixel 8" in answer.out
    assert "battery is at 12 %" in answer.out
    assert "cpupower" not in answer.out


def test_profile_writes_a_table_for_the_alias(here, amc, daemon, tiny):
    named(here, pixel=daemon.address)
    answer = amc("profile", "--model", "digits", "--device", "pixel", "--config", tiny, "--json")
    assert answer.code == 0, answer.err
    table = here / "latency_tables" / "pixel" / "digits--onnxruntime-cpu-fp32-t1.json"
    assert answer.json()["table"] == str(table.relative_to(here))
    assert read_json(table)["device"]["model"] == "Google Pixel 8"
    daemon.kill()
    answer = amc("table", "validate", str(table))
    assert answer.code == 1
    assert "which is not here: nothing answers" in answer.last_line
    assert "--file-only measures nothing" in answer.last_line


def test_several_phones_are_measured_at_once_and_one_dying_spoils_nothing(here, amc, daemon, second, tiny):
    named(here, good=daemon.address, bad=second.address)
    script(second, starts={1: "garbage"})
    answer = amc("profile", "--model", "digits", "--device", "good", "--device", "bad", "--config", tiny)
    assert answer.code == 3
    assert "1 of 2 devices failed, the others are done (bad: " in answer.last_line
    assert (here / "latency_tables" / "good" / "digits--onnxruntime-cpu-fp32-t1.json").is_file()
    assert not list((here / "latency_tables" / "bad").glob("*.json"))


def test_a_mistake_of_ours_on_one_device_is_raised_when_the_others_are_done():
    def work(name, _progress):
        if name == "odd":
            raise KeyError(name)
        time.sleep(0.2)
        done.append(name)

    done = []
    with pytest.raises(KeyError):
        each(["odd", "even"], work)
    assert done == ["even"]


def test_bench_on_all_phones_and_the_report(here, amc, daemon, second, run_folder):
    named(here, pixel=daemon.address, other=second.address)
    answer = amc("bench", run_folder, "--device", "all", "--json")
    assert answer.code == 0, answer.err
    found = answer.json()["comparisons"]
    assert [each["device"]["model"] for each in found] == ["Google Pixel 8"] * 2
    for name in ("pixel", "other"):
        kept = read_json(run_folder / "devices" / f"{name}.json")
        assert kept["speedup"] > 1.0
        assert kept["layers"]
    report = (run_folder / "report.html").read_text()
    assert "Google Pixel 8" in report
    again = amc("bench", run_folder, "--device", "all")
    assert "pixel: done before; --again measures again" in again.err


def test_all_leaves_out_a_phone_that_is_away(here, amc, daemon, second, run_folder):
    named(here, pixel=daemon.address, away=second.address)
    second.kill()
    answer = amc("bench", run_folder, "--device", "all")
    assert answer.code == 0, answer.err
    assert "away is left out: nothing answers" in answer.err
    assert [path.name for path in (run_folder / "devices").iterdir()] == ["pixel.json"]


def test_other_settings_have_a_file_of_their_own(here, amc, daemon, run_folder):
    named(here, pixel=daemon.address)
    for options in (("--threads", "2", "--cores", "7,8"), ()):
        assert amc("bench", run_folder, "--device", "pixel", *options).code == 0
    assert amc("bench", run_folder, "--threads", "2").code == 0
    threads = {path.name: read_json(path)["device"]["threads"] for path in (run_folder / "devices").iterdir()}
    assert threads == {"pixel-t2-cores7_8.json": 2, "pixel.json": 1, "host-t2.json": 2}


def test_bench_takes_the_phones_own_table(here, amc, daemon, run_folder, tiny):
    named(here, pixel=daemon.address)
    assert amc("bench", run_folder, "--device", "pixel").code == 0
    assert read_json(run_folder / "devices" / "pixel.json")["predicted_us"] is None
    assert amc("profile", "--model", "digits", "--device", "pixel", "--config", tiny).code == 0
    assert amc("bench", run_folder, "--device", "pixel").code == 0
    assert read_json(run_folder / "devices" / "pixel.json")["predicted_us"] > 0


def test_a_search_on_the_table_of_a_phone_that_is_away(here, amc, daemon, weights, tiny, tmp_path):
    named(here, pixel=daemon.address)
    table = tmp_path / "pixel.json"
    words = ("--model", "digits", "--device", "pixel", "--config", tiny)
    assert amc("profile", *words, "--out", table).code == 0
    daemon.kill()
    words = (*words, "--weights", weights, "--table", table, "--latency", "0.7", "--out", tmp_path / "away")
    answer = amc("search", *words, "--elsewhere", "--json")
    assert answer.code == 0, answer.err
    assert "the table is of another device, Google Pixel 8" in answer.err


def test_a_dead_phone_does_not_hold_the_others_benchmark(here, amc, daemon, second, run_folder):
    named(here, pixel=daemon.address, dead=second.address)
    second.kill()
    answer = amc("bench", run_folder, "--device", "pixel", "--device", "dead")
    assert answer.code == 3
    assert "dead" in answer.last_line
    assert read_json(run_folder / "devices" / "pixel.json")["speedup"] > 1.0
    assert "Google Pixel 8" in (run_folder / "report.html").read_text()


def test_a_model_that_the_phone_cannot_run_leaves_the_rest(here, amc, daemon, run_folder):
    named(here, pixel=daemon.address)
    assert amc("bench", run_folder, "--device", "pixel").code == 0
    found = read_json(run_folder / "devices" / "pixel.json")
    assert "does not load" in found["failed"]["int8"]  # the law of the computing runner knows no quantised networks
    assert found["int8"] is None
    assert found["speedup"] > 1.0


def test_phones_are_cleaned(here, amc, daemon, run_folder):
    named(here, pixel=daemon.address)
    amc("bench", run_folder, "--device", "pixel")
    answer = amc("devices", "--clean", "--device", "pixel")
    assert answer.code == 0
    assert "MB removed" in answer.out
    assert not daemon.sandbox.path("/data/local/tmp/amc-mobile").exists()


def test_selfcheck_writes_what_to_send(here, amc, daemon):
    named(here, pixel=daemon.address)
    answer = amc("selfcheck", "--device", "pixel", "--json")
    said = answer.json()
    checks = {check["question"]: check["passed"] for check in said["checks"]}
    assert checks["What is it?"]
    assert checks["Do files arrive as they were sent, and how fast?"]
    assert answer.code == (0 if said["passed"] else 3)
    assert read_json(here / "selfcheck-pixel.json")["checks"] == said["checks"]


def test_no_phone_is_said_in_one_line(amc, run_folder):
    answer = amc("bench", run_folder, "--device", "all")
    assert answer.code == 3
    assert "no phone is ready" in answer.last_line
    answer = amc("profile", "--model", "digits", "--device", "pixel")
    assert answer.code == 3
    assert "there is no device 'pixel'" in answer.last_line
