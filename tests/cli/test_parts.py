"""The small parts of the front door: progress, settings, the stages' book, the lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.cli.console import PlainProgress
from amc_mobile.cli.inputs import held, identity, listing, remembered
from amc_mobile.cli.ledger import Ledger
from amc_mobile.cli.lock import locked
from amc_mobile.cli.settings import differences, flat, override, with_data_folder
from amc_mobile.cli.stage import fingerprints
from amc_mobile.cli.stage_list import stages
from amc_mobile.config import RunConfig
from amc_mobile.errors import ConfigError, RunFolderError
from amc_mobile.sections.budget import BudgetConfig
from amc_mobile.sections.data import DataConfig
from amc_mobile.sections.model import ModelConfig


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_without_a_terminal_is_rare_and_estimates_what_is_left():
    clock, lines = Clock(), []
    progress = PlainProgress("search", lines.append, clock)
    for done in range(101):
        progress(done, 100, "episode")
        clock.now += 1.0
    assert len(lines) == 20
    assert lines[3].split() == ["search", "20/100,", "about", "80", "s", "left", "episode"]


def test_the_estimate_of_a_resumed_stage_counts_only_what_is_done_now():
    clock, lines = Clock(), []
    progress = PlainProgress("search", lines.append, clock)
    progress(90, 100, "")
    clock.now += 10.0
    progress(91, 100, "")
    assert "about 90 s left" in lines[0]


def test_every_part_of_a_stage_is_estimated_by_its_own_pace():
    clock, lines = Clock(), []
    progress = PlainProgress("settle", lines.append, clock)
    for done in range(3):  # slow ones
        progress(done, 3, "round")
        clock.now += 100.0
    for done in range(41):
        progress(done, 40, "policy")
        clock.now += 1.0
    assert lines[-1].split()[:4] == ["settle", "40/40,", "about", "0.0"]
    assert "about 35 s left" in next(line for line in lines if line.split()[1].startswith("5/40"))


def test_options_replace_settings_and_one_budget_replaces_the_other():
    config = override(RunConfig(), {"budget.macs": 0.3, "search.episodes": 7, "seed": None, "out": Path("here")})
    assert config.budget == BudgetConfig(macs=0.3)
    assert (config.search.episodes, config.seed, config.out) == (7, 0, Path("here"))
    trained = RunConfig(model=ModelConfig(weights=Path("digits.pt")))
    assert override(trained, {"model.name": "digits"}).model.weights == Path("digits.pt")
    assert override(trained, {"model.name": "resnet20"}).model.weights is None
    with pytest.raises(ConfigError, match=r"search\.episodes"):
        override(RunConfig(), {"search.episodes": 0})


def test_the_data_folder_goes_before_relative_files_only(tmp_path):
    config = RunConfig(
        model=ModelConfig(name="resnet20", weights=Path("net.pt")),
        data=DataConfig(name="train.npz", test="imagefolder:val"),
    )
    found = with_data_folder(config, tmp_path)
    assert found.model.weights == tmp_path / "net.pt"
    assert (found.data.name, found.data.test) == (f"{tmp_path}/train.npz", f"imagefolder:{tmp_path}/val")
    digits = with_data_folder(RunConfig(), tmp_path)
    assert (digits.data.name, digits.model.weights) == ("digits", None)
    absolute = override(RunConfig(), {"model.weights": Path("/elsewhere/net.pt")})
    assert with_data_folder(absolute, tmp_path).model.weights == Path("/elsewhere/net.pt")


def test_a_file_is_the_same_wherever_it_lies_and_another_once_it_changes(tmp_path):
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    configs = [RunConfig(model=ModelConfig(weights=path)) for path in (first, second)]
    assert differences(*configs) == []
    before = identity("model.weights", str(first))
    first.write_bytes(b"other weights")
    assert identity("model.weights", str(first)) != before


def test_a_folder_of_images_is_the_same_wherever_it_lies_and_another_once_a_picture_comes(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place / "cats").mkdir(parents=True)
        (tmp_path / place / "cats" / "1.png").write_bytes(b"picture")
    configs = [override(RunConfig(), {"data.name": f"imagefolder:{tmp_path / place}"}) for place in ("a", "b")]
    assert differences(*configs) == []
    (tmp_path / "b" / "cats" / "2.png").write_bytes(b"picture")
    listing.cache_clear()  # it is read once by every command
    assert [change.split()[0] for change in differences(*configs)] == ["data.name"]


def test_a_folder_whose_links_lead_back_or_nowhere_has_an_identity(tmp_path):
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "1.png").write_bytes(b"picture")
    plain = held(f"imagefolder:{tmp_path}")
    (tmp_path / "cats" / "back").symlink_to(tmp_path)
    (tmp_path / "cats" / "nowhere.png").symlink_to(tmp_path / "missing")
    listing.cache_clear()
    assert held(f"imagefolder:{tmp_path}") == plain is not None


def test_a_users_own_network_is_its_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    source = tmp_path / "own" / "net.py"
    source.write_text("raise RuntimeError('nothing is imported')")
    first = held("own.net:build")
    assert first is not None and first == held("own.net:build") != held("own.net:other")
    source.write_text("def build(): ...")
    assert held("own.net:build") not in (first, None)
    assert held("own.missing:build") is held("nowhere.net:build") is held("sys:exit") is None


def test_what_is_absent_is_what_it_was(tmp_path, monkeypatch):
    """A run that was given relative paths is opened from another folder, where they lead nowhere."""
    (tmp_path / "net.pt").write_bytes(b"weights")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "table.json").write_bytes(b"{}")
    also = [{"table": Path("table.json"), "latency": 0.5}]
    given = {"model.weights": Path("net.pt"), "data.name": "imagefolder:pictures", "budget.also": also}
    config = override(RunConfig(), given)
    monkeypatch.chdir(tmp_path)
    known = remembered(flat(config))
    at_home = fingerprints(stages(config), config, known)
    monkeypatch.chdir("/")
    assert fingerprints(stages(config), config, known) == at_home != fingerprints(stages(config), config)
    elsewhere = override(RunConfig(), {**given, "model.weights": tmp_path / "net.pt"})
    assert differences(config, elsewhere, known=known) == []
    (tmp_path / "net.pt").write_bytes(b"other weights")
    assert [change.split()[0] for change in differences(config, elsewhere, known=known)] == ["model.weights"]


STAGES = [stage.name for stage in stages(RunConfig())]


@pytest.mark.parametrize(
    ("option", "redone"),
    [
        ({"out": Path("elsewhere")}, []),
        ({"profile.force": True}, []),
        ({"bench.rounds": 20}, ["bench", "report"]),
        ({"finetune.epochs": 3}, ["finetune", "export", "quantise", "evaluate", "bench", "report"]),
        ({"int8.method": "mse"}, ["quantise", "evaluate", "bench", "report"]),
        ({"search.episodes": 7}, STAGES[STAGES.index("search") :]),
        ({"device.threads": 2}, ["profile", *STAGES[STAGES.index("search") :]]),
        ({"prune.points_per_image": 3}, STAGES[STAGES.index("calibrate") :]),
        ({"seed": 3}, STAGES),
        ({"model.name": "resnet20"}, STAGES),
    ],
)
def test_a_setting_redoes_the_stages_that_depend_on_it(option, redone):
    """For the digits network, which is trained here under a latency budget."""
    configs = [RunConfig(), override(RunConfig(), option)]
    before, after = (fingerprints(stages(config), config) for config in configs)
    assert [name for name in before if before[name] != after[name]] == redone


def test_a_table_matters_only_to_a_latency_search():
    for budget, redone in ((BudgetConfig(macs=0.5), ["profile"]), (BudgetConfig(latency=0.5), ["profile", "search"])):
        configs = [RunConfig(budget=budget), override(RunConfig(budget=budget), {"profile.carriers": 30})]
        before, after = (fingerprints(stages(config), config) for config in configs)
        assert [name for name in ("profile", "calibrate", "search") if before[name] != after[name]] == redone


def test_the_precision_of_the_device_decides_which_networks_are_judged():
    """A budget of MACs knows nothing of the device: the search still counts, the verdict does not."""
    configs = [override(RunConfig(), {"budget.macs": 0.5, "device.precision": name}) for name in ("fp32", "int8")]
    before, after = (fingerprints(stages(config), config) for config in configs)
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["profile", "quantise", "evaluate", "bench", "report"]


def test_every_setting_belongs_to_a_stage_or_to_none_for_a_reason():
    """A new setting that no stage depends on would be changed without anything being redone."""
    config = RunConfig()
    changed = {
        "out",
        "profile.force",
        "profile.elsewhere",
        "profile.max_error",
    }  # where, and whether to believe a table
    known = {path for stage in stages(config) for path in stage.settings}
    assert {path for path in flat(config) if path not in known and path.partition(".")[0] not in known} == changed


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(["train", "search"]), st.sampled_from(["a", "b"]), st.booleans())))
def test_the_book_on_disk_is_the_book(tmp_path_factory, events):
    path = tmp_path_factory.mktemp("book") / "stages.json"
    ledger, last = Ledger(path), {}
    for number, (stage, inputs, finished) in enumerate(events):
        ledger.remember({"net.pt": str(number)} if finished else {})
        ledger.begin(stage, inputs)
        (ledger.finish if finished else ledger.pause)(stage, inputs, 1.0)
        last[stage] = (inputs, finished)
    read = Ledger(path)
    assert all(read.finished(stage, inputs) == finished for stage, (inputs, finished) in last.items())
    assert all(not read.finished(stage, "c") for stage in last)
    assert read.seconds() == ledger.seconds()
    last_number = [str(number) for number, event in enumerate(events) if event[2]][-1:]
    assert list(read.held.values()) == list(ledger.held.values()) == last_number


def test_a_damaged_book_says_what_to_do(tmp_path):
    (tmp_path / "stages.json").write_text('{"stages": [1]}', encoding="utf-8")
    with pytest.raises(RunFolderError, match="delete it"):
        Ledger(tmp_path / "stages.json")


def test_a_lock_dies_with_its_process(tmp_path):
    code = (
        "import pathlib, sys, time; from amc_mobile.cli.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=f"process {holder.pid}"), locked(tmp_path):
            pass
        holder.kill()
    with locked(tmp_path):
        pass


def test_a_reader_that_leaves_early_is_no_error():
    line = f"{sys.executable} -m amc_mobile.cli.main --help"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} | true"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr and "Error" not in done.stderr
