"""The winner of a search is judged as it will be repaired, beside its neighbours; the best of them ships."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from amc_mobile.cli import main, refining
from amc_mobile.cli.session import Session
from amc_mobile.config import load
from amc_mobile.report.sources import read_sources
from amc_mobile.runs import RunFolder, read_trials
from amc_mobile.types import Policy


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Path:
    """The settings of the tiny run, of a network that knows a little: what nobody can answer cannot be repaired."""
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "train.toml"
    text = tiny.read_text().replace("train_images = 64", "train_images = 600")
    lines = [line for line in text.splitlines() if not line.startswith("weights")]
    config.write_text("\n".join([*lines, "[train]\nepochs = 3\nbatch_size = 32\nlearning_rate = 0.05\nshift = 0\n"]))
    assert main.run(["run", str(config), "--out", str(folder / "run"), "--stage", "train"]) == 0
    known = folder / "tiny.toml"
    lines = tiny.read_text().splitlines()
    weights = f"weights = {json.dumps(str(folder / 'run' / 'original.pt'))}"
    known.write_text("\n".join(weights if line.startswith("weights") else line for line in lines))
    return known


def settings(tiny: Path, tmp_path: Path, **changes: str) -> Path:
    text = tiny.read_text().replace("calibration_images = 12", "calibration_images = 150")
    text = text.replace("latency = 0.6", "macs = 0.5").replace("episodes = 3", 'episodes = 12\nreward = "kl"')
    text = text.replace("ridge = 1e-4", "ridge = 1e-3")
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    path = tmp_path / "refine.toml"
    path.write_text(text)
    return path


def refined(folder: Path) -> dict:
    return json.loads((folder / "refined.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, trained) -> Path:
    """The folder of a search, refined. Read it only."""
    root = tmp_path_factory.mktemp("searched")
    assert main.run(["search", "--config", str(settings(trained, root)), "--out", str(root / "run")]) == 0
    return root / "run"


@pytest.fixture
def searched(finished, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_the_best_of_the_refreshed_policies_ships(amc, searched):
    found = refined(searched)
    trials = read_trials(RunFolder(RunFolder(searched).refining).trials)
    assert trials[0].kept == tuple(json.loads((searched / "search.json").read_text())["best"]["kept"])
    assert found["best"]["reward"] == max(trial.reward for trial in trials) >= found["first"]["reward"]
    assert found["evaluations"] == len({trial.kept for trial in trials}) <= 12
    assert len({trial.kept for trial in trials}) > 4
    limit = json.loads((searched / "search.json").read_text())["budget"]["limit"]
    assert all(trial.cost.macs <= limit for trial in trials)
    assert amc("prune", searched).code == 0
    assert json.loads((searched / "policy.json").read_text())["kept"] == found["best"]["kept"]
    assert json.loads((searched / "why.json").read_text())["kept_by"] == "the winner of the search, refined"


def test_an_agent_by_name_is_left_alone(amc, trained, tmp_path):
    """Else a uniform policy would ship with random changes, and be called uniform."""
    folder = tmp_path / "run"
    line = ("search", "--config", settings(trained, tmp_path), "--agent", "uniform", "--out", folder)
    assert amc(*line).code == 0
    assert amc("prune", folder).code == 0
    kept = json.loads((folder / "policy.json").read_text())["kept"]
    assert kept == json.loads((folder / "search.json").read_text())["best"]["kept"]
    assert not (folder / "refined.json").exists()


def test_what_was_refined_under_other_settings_is_not_told(amc, searched):
    config = searched.parent / "other.toml"
    config.write_text((searched / "config.toml").read_text().replace('agent = "auto"', 'agent = "uniform"'))
    answer = amc("search", "--config", config, "--out", searched, "--update", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["refined"] is None
    assert read_sources(RunFolder(searched)).refined is None


def test_its_rewards_are_those_of_refreshed_networks(searched):
    session = Session(RunFolder(searched), load(searched / "config.toml"))
    refresher, reason = refining._refresher(session)
    assert refresher is not None and not reason
    winner = Policy(tuple(json.loads((searched / "search.json").read_text())["best"]["kept"]))
    assert refining._tuned(refresher, session.pruner, winner)
    best = Policy(tuple(refined(searched)["best"]["kept"]))
    pruner = refining.RefreshingPruner(session.pruner, refresher)
    score, plain = (session.evaluator("search").score(each.prune(best)) for each in (pruner, session.pruner))
    assert -score.kl == pytest.approx(refined(searched)["best"]["reward"])
    assert score.kl < plain.kl


def test_a_refresh_holds_out_images_of_chance(searched, monkeypatch):
    session = Session(RunFolder(searched), load(searched / "config.toml"))
    seen = []
    monkeypatch.setattr(
        "amc_mobile.prune.refresh.refresh", lambda _, __, ___, images, **____: seen.append(images) or {}
    )
    session.final(Policy(tuple(refined(searched)["best"]["kept"])))
    given = session.splits.calibration.tensors(session.preprocessing)
    places = [next(place for place, image in enumerate(given) if np.array_equal(image, one)) for one in seen[0]]
    assert sorted(places) == list(range(len(given))) != places


def test_it_is_said_and_done_once(amc, searched, trained, tmp_path):
    before = (searched / "refined.json").read_bytes()
    again = amc("search", "--config", settings(trained, tmp_path), "--out", searched, "--json")
    assert again.code == 0 and "refine  done before" in again.err
    assert again.json()["refined"]["best"] == refined(searched)["best"]
    assert (searched / "refined.json").read_bytes() == before
    said = amc("search", "--config", settings(trained, tmp_path), "--out", searched).out
    assert "refined  reward" in said


def test_a_kill_loses_no_evaluation(amc, trained, tmp_path, monkeypatch):
    config = settings(trained, tmp_path)
    for name in ("whole", "broken"):
        for stage in ("train", "graph", "calibrate", "search"):
            assert amc("run", config, "--out", tmp_path / name, "--stage", stage).code == 0
    prune, left = refining.RefreshingPruner.prune, [5]

    def dying(self, policy):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return prune(self, policy)

    monkeypatch.setattr(refining.RefreshingPruner, "prune", dying)
    assert amc("search", "--config", config, "--out", tmp_path / "broken").code == 130
    written = read_trials(RunFolder(tmp_path / "broken" / "refine").trials)
    assert len(written) == 4
    left[0] = -1
    for name in ("whole", "broken"):
        assert amc("search", "--config", config, "--out", tmp_path / name).code == 0
    whole, broken = (read_trials(RunFolder(tmp_path / name / "refine").trials) for name in ("whole", "broken"))
    assert [trial.kept for trial in broken] == [trial.kept for trial in whole]
    assert [trial.index for trial in broken[:4]] == [trial.index for trial in written]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"calibration_images = 150": "calibration_images = 12"}, "12 calibration images are too few"),
        (
            {"ridge = 1e-3": "ridge = 1e-12", "calibration_images = 150": "calibration_images = 24"},
            "does not bring it nearer to the original",
        ),
    ],
)
def test_where_it_is_of_no_use_the_winner_stays(amc, trained, tmp_path, changes, said):
    folder = tmp_path / "run"
    answer = amc("search", "--config", settings(trained, tmp_path, **changes), "--out", folder)
    assert answer.code == 0, answer.err
    assert said in answer.err
    assert refined(folder)["best"] is None
    assert amc("prune", folder).code == 0
    kept = json.loads((folder / "policy.json").read_text())["kept"]
    assert kept == json.loads((folder / "search.json").read_text())["best"]["kept"]


@pytest.mark.parametrize("changes", [{"ridge = 1e-3": "ridge = 1e-3\nrefine = 0"}, {"ridge = 1e-3": "refresh = false"}])
def test_it_can_be_left_out(amc, trained, tmp_path, changes):
    folder = tmp_path / "run"
    answer = amc("search", "--config", settings(trained, tmp_path, **changes), "--out", folder)
    assert answer.code == 0, answer.err
    assert "refine" not in answer.err and not (folder / "refined.json").exists()


def test_a_refinement_of_another_search_counts_no_more(searched):
    folder = RunFolder(searched)
    assert refining.is_refined(folder) and refining.refined(folder) is not None
    result = json.loads(folder.search.read_text())
    folder.search.write_text(json.dumps(result | {"episodes": 1}))
    assert not refining.is_refined(folder) and refining.refined(folder) is None


def test_the_report_tells_of_it(amc, searched, trained, tmp_path):
    answer = amc("run", settings(trained, tmp_path), "--out", searched)
    assert answer.code == 0, answer.err
    found = refined(searched)
    report = (searched / "report.md").read_text()
    assert "were judged as they will be repaired" in report
    assert f"{found['best']['reward']:.4f}".lstrip("-") in report
