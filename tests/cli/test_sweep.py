"""`amc sweep` without Ray: what it would do, what it refuses, what counts as done; stages taken from other folders."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import pytest

from amc_mobile.cli import phones
from amc_mobile.cli.sweeping import check_here, resolve
from amc_mobile.config import load as load_run
from amc_mobile.device import gpu
from amc_mobile.errors import ConfigError, DeviceError, RunFolderError
from amc_mobile.runs import RunFolder, read_json
from amc_mobile.sweep.board import Board
from amc_mobile.sweep.settings import load, with_options
from tests.report.fake_run import DEVICE


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr(phones, "attached", lambda: ([], {}))


@pytest.fixture
def swept(tiny, tmp_path):
    """The sweep that these options of [sweep] make of the tiny run."""

    def make(*, update=False, **given):
        settings, base = load(tiny)
        return resolve(with_options(settings, given), base, tmp_path / "sweep", None, update=update)

    return make


# ---------------------------------------------------------------------------------------------------- what it would do


def test_a_dry_run_lists_all_jobs_and_makes_nothing(amc, tiny, tmp_path):
    words = ("--latency", "0.7", "--latency", "0.5", "--seed", 0, "--seed", 1, "--device", "host", "--out", "sweep")
    found = amc("sweep", tiny, *words, "--dry-run", "--json").json()
    assert found["runs"] == 4
    assert len(found["jobs"]) == 2 + 1 + 4 * 4
    claims = {job["step"]: job["claims"] for job in found["jobs"]}
    assert claims["search"] == "1 core(s)"
    assert claims["bench"] == "host, a node to itself"
    text = amc("sweep", tiny, *words, "--dry-run")
    assert "would do 19 of 19 jobs of 4 runs" in text.out
    assert not (tmp_path / "sweep").exists()


def test_every_run_has_its_own_settings_and_shares_the_table(swept, tmp_path):
    sweep = swept(devices=["host", "10.0.0.7:5555"], budgets=[{"latency": 0.7}, {"macs": 0.5}], seeds=[3])
    config = sweep.configs["10.0.0.7_5555-macs0.5-s3"]
    assert (config.seed, config.device.name) == (3, "10.0.0.7:5555")
    assert (config.budget.latency, config.budget.macs) == (None, 0.5)
    assert config.profile.table == tmp_path / "sweep" / "shared" / "table-10.0.0.7_5555" / "table.json"
    assert config.search.threads == 1
    assert config.model.weights.is_absolute()
    steps = [job.step for job in sweep.jobs if job.folder == "host-macs0.5-s3"]
    assert steps == ["search", "cut", "bench"]  # nothing to settle without a limit on latency
    assert sweep.configs["shared/table-host"].profile.table is None


def test_an_order_names_stages_and_needs_no_device_unless_it_measures(swept):
    sweep = swept(gpus=0.5)
    orders = {job.step: sweep.order(job) for job in sweep.jobs}
    words = orders["search"].arguments
    assert words[:2] == ("run", str(sweep.root / "configs" / "host-latency0.6-s0.toml"))
    assert words.count("--stage") == 6
    assert str(sweep.root / "shared" / "original-s0") in words
    assert "--elsewhere" in words
    assert orders["search"].gpu
    assert "--elsewhere" not in orders["bench"].arguments
    assert not orders["bench"].gpu


def test_relative_files_are_those_of_this_machines_folder(tmp_path, weights):
    shutil.copy(weights, tmp_path / "w.pt")
    (tmp_path / "run.toml").write_text('[model]\nweights = "w.pt"\n')
    settings, base = load(tmp_path / "run.toml")
    sweep = resolve(settings, base, None, None, update=False)
    assert sweep.root == tmp_path / "runs" / "run"
    assert sweep.configs["host-latency0.5-s0"].model.weights == tmp_path / "w.pt"


# ---------------------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (("--latency", "fast"), 1, "budgets.0.latency"),
        (("--agent", "alphago"), 1, "agents.0"),
        (("--seed", 1, "--seed", 1), 1, "seeds: 1 stands there twice"),
        (("--device", "cuda:1"), 1, "write cuda instead of cuda:1"),
        (("--device", "gpu"), 3, "did you mean --device cuda?"),
        (("--device", "hots", "--dry-run"), 3, "did you mean --device host?"),
        (("--device", "pixel"), 3, "there is no device 'pixel'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_begun(amc, tiny, tmp_path, options, code, why):
    answer = amc("sweep", tiny, *options, "--out", "sweep")
    assert (answer.code, answer.out) == (code, "")
    assert why in answer.last_line
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_without_ray_says_what_to_install(amc, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    answer = amc("sweep", tiny, "--out", "sweep")
    assert answer.code == 1
    assert answer.last_line == "amc: a sweep runs on Ray, which is not here; type: pip install 'amc-mobile[ray]'"
    assert not (tmp_path / "sweep").exists()


def test_a_table_is_of_one_device(tiny, tmp_path):
    settings, base = load(tiny)
    base = base.model_copy(update={"profile": base.profile.model_copy(update={"table": tmp_path / "t.json"})})
    with pytest.raises(ConfigError, match=r"profile\.table is of one device, and there are 2"):
        resolve(with_options(settings, {"devices": ["host", "cuda"]}), base, None, None, update=False)
    away = base.model_copy(update={"profile": base.profile.model_copy(update={"elsewhere": True})})
    with pytest.raises(ConfigError, match=r"leave out profile\.elsewhere"):
        resolve(settings, away, None, None, update=False)


def test_one_phone_under_two_names_is_one_phone(swept, tmp_path, monkeypatch):
    (tmp_path / "devices.toml").write_text('[a]\naddress = "10.0.0.7:5555"\n')
    with pytest.raises(DeviceError, match=r"a and 10\.0\.0\.7:5555 are one phone"):
        check_here(swept(devices=["a", "10.0.0.7:5555"]))


def test_a_folder_of_something_else_is_left_alone(swept, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "thesis.tex").write_text("mine")
    with pytest.raises(RunFolderError, match="is not empty and holds no sweep"):
        swept().prepare()


# ---------------------------------------------------------------------------------------------------- what is done


def test_a_grid_may_grow_but_settings_may_not_change_unnoticed(swept, tmp_path):
    sweep = swept(budgets=[{"latency": 0.7}])
    sweep.prepare()
    sweep.write_index(Board(sweep.jobs))
    run = RunFolder(sweep.root / "host-latency0.7-s0").create()
    shutil.copy(sweep.config_file("host-latency0.7-s0"), run.config)
    swept(budgets=[{"latency": 0.7}, {"latency": 0.5}], seeds=[0, 1]).prepare()
    changed = swept(budgets=[{"latency": 0.7}], cpus=2)
    with pytest.raises(RunFolderError, match=r"other settings \(search\.threads 1 -> 2\)"):
        changed.prepare()
    swept(budgets=[{"latency": 0.7}], cpus=2, update=True).prepare()
    assert load_run(changed.config_file("host-latency0.7-s0")).search.threads == 2


def test_a_job_is_done_if_its_stages_are_finished_from_the_inputs_of_today(swept, finished, tiny, tmp_path):
    sweep = swept(budgets=[{"latency": 0.6}])
    assert sweep.done() == set()
    sweep.prepare()
    folder = sweep.root / "shared" / "original-s0"
    shutil.copytree(finished, folder)
    assert sweep.done() == {"shared/original-s0 original"}
    (folder / "gram.npz").unlink()
    assert sweep.done() == set()


def test_stages_are_taken_from_another_folder(amc, finished, tiny, tmp_path):
    words = ("--stage", "train", "--stage", "graph", "--stage", "calibrate", "--out", "new")
    answer = amc("run", tiny, *words, "--reuse", finished)
    assert answer.code == 0, answer.err
    assert "calibrate  taken from" in answer.err
    assert "new: still to do: profile, search" in answer.last_line
    new = RunFolder(tmp_path / "new")
    assert new.gram.read_bytes() == RunFolder(finished).gram.read_bytes()
    assert new.ranking.is_file()
    assert set(read_json(new.stages)["stages"]) == {"train", "graph", "calibrate"}
    state = amc("run", tiny, "--out", "new", "--dry-run", "--json").json()
    assert [stage["stage"] for stage in state["stages"] if stage["done"]] == ["train", "graph", "calibrate"]


def test_nothing_is_taken_that_was_made_from_other_settings(amc, finished, tiny, tmp_path):
    config = tmp_path / "other.toml"
    config.write_text(tiny.read_text().replace("calibration_images = 12", "calibration_images = 11"))
    words = ("--stage", "train", "--stage", "graph", "--stage", "calibrate", "--out", "new")
    answer = amc("run", config, *words, "--reuse", finished)
    assert answer.code == 0, answer.err
    assert "graph  taken from" in answer.err  # does not depend on the images
    assert "calibrate  taken from" not in answer.err


def test_a_stage_needs_those_before_it(amc, tiny):
    answer = amc("run", tiny, "--stage", "search", "--out", "new")
    assert answer.code == 1
    assert "is not done with the present settings" in answer.last_line
    answer = amc("run", tiny, "--stage", "fly", "--out", "new")
    assert "this run has no stage 'fly'; its stages are train, graph, profile" in answer.last_line


def test_how_a_machine_joins_a_cluster(amc, monkeypatch):
    monkeypatch.setattr(phones, "ready_names", lambda: ["pixel", "10.0.0.7:5555"])
    found = amc("devices", "--ray", "--address", "10.0.0.1:6379", "--json").json()
    assert found["offers"][0].startswith("amc:host/")
    assert found["offers"][1:] == ["amc:pixel", "amc:10.0.0.7:5555"]
    assert "ray start --address=10.0.0.1:6379 --resources='{" in found["join"]
    assert json.loads(found["head"].partition("--resources='")[2].rstrip("'"))["amc:pixel"] == 1
    assert amc("devices", "--ray").out.startswith("RAY_worker_niceness=0 ")
    monkeypatch.setattr(gpu, "describe", lambda: [replace(DEVICE, model="NVIDIA H100")])
    offered = amc("devices", "--ray", "--json").json()["offers"]
    assert [offer.endswith(" NVIDIA H100") for offer in offered] == [False, True, True, False, False]
    assert [offer.partition("/")[0] for offer in offered[1:3]] == ["amc:cuda", "amc:cuda-ort"]
