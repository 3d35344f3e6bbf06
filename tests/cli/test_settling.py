"""The loop is closed: a table that is wrong about the chosen network is repaired, and the search finished on it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from amc_mobile.cli import session
from amc_mobile.cost import table_file
from amc_mobile.cost.table import LatencyTable
from amc_mobile.errors import RunFolderError
from amc_mobile.runs import RunFolder, read_trials
from amc_mobile.types import NetworkGraph
from tests.fakes.analytic import AnalyticDevice


class Changing(AnalyticDevice):
    """A device that becomes slower with every pruned network, by one and the same factor, once the table is made."""

    factor = 1.0
    whole: bytes = b""

    def node_times(self, model):
        times = super().node_times(model)
        pruned = len(model) < 0.98 * max(len(model), len(self.whole))
        self.whole = max(self.whole, model, key=len)
        if not pruned:
            return times
        return [replace(time, round_us=tuple(self.factor * us for us in time.round_us)) for time in times]


@pytest.fixture
def device(monkeypatch) -> Changing:
    found = Changing(noise=0.001)
    monkeypatch.setattr(session, "open_device", lambda _config, **_: found)
    return found


def settings(tiny, tmp_path):
    text = tiny.read_text().replace("tolerance = 100.0", "tolerance = 0.03").replace("carriers = 4", "carriers = 10")
    path = tmp_path / "settle.toml"
    path.write_text(text)
    return path


def settled(folder) -> dict:
    return json.loads((folder / "settled.json").read_text())


def test_a_right_table_is_left_alone(amc, device, tiny, tmp_path):
    answer = amc("search", "--config", settings(tiny, tmp_path), "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    (check,) = settled(tmp_path / "run")["checks"]
    assert not check["repaired"] and abs(check["error"]) < 0.03
    assert not (tmp_path / "run" / "before").exists()


def test_a_wrong_table_is_repaired_and_the_search_finished(amc, device, tiny, tmp_path):
    config, folder = settings(tiny, tmp_path), tmp_path / "run"
    assert amc("search", "--config", config, "--out", folder, "--dry-run").code == 0
    _profile_first(amc, config, folder)
    device.factor = 1.12
    answer = amc("search", "--config", config, "--out", folder)
    assert answer.code == 0, answer.err
    checks = settled(folder)["checks"]
    assert checks[0]["repaired"] and checks[0]["error"] < -0.03
    assert abs(checks[-1]["error"]) < abs(checks[0]["error"])
    former = read_trials(folder / "before" / "1.trials.jsonl")
    assert former and (folder / "before" / "1.table.json").is_file()
    best = json.loads((folder / "search.json").read_text())["best"]
    assert best["kept"] == checks[-1]["kept"]
    assert best["cost"]["latency_us"] <= json.loads((folder / "search.json").read_text())["budget"]["limit"]
    again = amc("search", "--config", config, "--out", folder)
    assert again.code == 0 and "settle  done before" in again.err


def test_on_a_repaired_table_a_rule_is_still_that_rule(amc, device, tiny, tmp_path):
    config, folder = settings(tiny, tmp_path), tmp_path / "run"
    config.write_text(config.read_text().replace("episodes = 3", 'episodes = 3\nagent = "uniform"'))
    _profile_first(amc, config, folder)
    device.factor = 1.12
    assert amc("search", "--config", config, "--out", folder).code == 0
    assert settled(folder)["checks"][0]["repaired"]
    first, last = (read_trials(path) for path in (folder / "before" / "1.trials.jsonl", folder / "trials.jsonl"))
    assert len(first) == len(last)
    assert {trial.agent for trial in last} == {"uniform"}


@pytest.mark.parametrize("killed_after", [1, 2, 4, 6, 8])
def test_a_killed_repair_goes_on_where_it_was(amc, device, tiny, tmp_path, killed_after):
    config, folder = settings(tiny, tmp_path), tmp_path / "run"
    _profile_first(amc, config, folder)
    device.factor = 1.12
    device.killed_after = device.calls + killed_after
    first = amc("search", "--config", config, "--out", folder)
    device.killed_after = None
    assert first.code in (0, 130), first.err
    assert amc("search", "--config", config, "--out", folder).code == 0
    checks = settled(folder)["checks"]
    assert checks[0]["repaired"] and not checks[-1]["repaired"]
    assert json.loads((folder / "search.json").read_text())["best"]["kept"] == checks[-1]["kept"]
    assert not list(folder.glob("settle.partial*"))


@pytest.mark.parametrize("killed_after", [0, 1, 5, 12])
def test_a_killed_second_search_goes_on_where_it_was(amc, device, tiny, tmp_path, monkeypatch, killed_after):
    """Killed while it evaluates: the first search's files stay in place until the second is finished."""
    from amc_mobile.search import again

    config, folder = settings(tiny, tmp_path), tmp_path / "run"
    _profile_first(amc, config, folder)
    device.factor = 1.12
    left, bring = [killed_after], again._bring

    def dying(*arguments):
        if left[0] == 0:
            left[0] = -1
            raise KeyboardInterrupt
        left[0] -= 1
        bring(*arguments)

    monkeypatch.setattr(again, "_bring", dying)
    first = amc("search", "--config", config, "--out", folder)
    assert first.code == 130, first.err
    assert (folder / "search.json").is_file() and (folder / "trials.jsonl").is_file()
    second = amc("search", "--config", config, "--out", folder)
    assert second.code == 0, second.err
    checks = settled(folder)["checks"]
    assert checks[0]["repaired"] and not checks[-1]["repaired"]
    assert checks[0]["mape_before"] != checks[0]["mape_after"]
    assert json.loads((folder / "search.json").read_text())["best"]["kept"] == checks[-1]["kept"]
    assert not list((folder / "again").glob("*"))


def test_half_a_table_is_mended_from_the_one_before(amc, device, tiny, tmp_path, monkeypatch):
    """A full disk between the two files of the repaired table."""
    config, folder = settings(tiny, tmp_path), tmp_path / "run"
    _profile_first(amc, config, folder)
    device.factor = 1.12
    write = table_file.write_text
    monkeypatch.setattr(table_file, "write_text", lambda *_: (_ for _ in ()).throw(RunFolderError("the disk is full")))
    assert "the disk is full" in amc("search", "--config", config, "--out", folder).last_line
    monkeypatch.setattr(table_file, "write_text", write)
    assert amc("search", "--config", config, "--out", folder).code == 0
    assert settled(folder)["checks"][0]["repaired"]
    LatencyTable.load(folder / "table.json")


def test_settling_anew_searches_anew_on_the_table_of_then(amc, device, tiny, tmp_path):
    """The first settling left a finished search after a repair, which says nothing about the next repair."""
    config, folder = settings(tiny, tmp_path), tmp_path / "run"
    _profile_first(amc, config, folder)
    device.factor = 1.12
    assert amc("search", "--config", config, "--out", folder).code == 0
    device.factor = 1.4
    config.write_text(config.read_text().replace("tolerance = 0.03", "tolerance = 0.02"))
    assert amc("search", "--config", config, "--out", folder, "--update").code == 0
    assert settled(folder)["checks"][0]["repaired"]
    network, table = network_of(folder), LatencyTable.load(folder / "table.json")
    for trial in read_trials(folder / "trials.jsonl"):
        assert trial.cost.latency_us == pytest.approx(table.latency_us(network, trial.kept))


def network_of(folder):
    return TypeAdapter(NetworkGraph).validate_python(json.loads((folder / "graph.json").read_text())["network"])


def test_a_clock_that_is_slower_alike_is_no_error_of_the_table(amc, device, tiny, tmp_path):
    config, folder = settings(tiny, tmp_path), tmp_path / "run"
    _profile_first(amc, config, folder)
    device.drift = lambda _seconds: 1.3
    assert amc("search", "--config", config, "--out", folder).code == 0
    (check,) = settled(folder)["checks"]
    assert check["drift"] == pytest.approx(1.3, rel=0.02) and not check["repaired"]
    assert abs(check["error"]) < 0.03


def test_a_device_that_is_disturbed_all_the_time_repairs_nothing(amc, device, tiny, tmp_path):
    config, folder = settings(tiny, tmp_path), tmp_path / "run"
    _profile_first(amc, config, folder)
    device.factor, device.drift = 1.12, lambda _seconds: 1.3
    answer = amc("search", "--config", config, "--out", folder)
    assert answer.code == 0, answer.err
    (check,) = settled(folder)["checks"]
    assert check["drift"] == pytest.approx(1.3, rel=0.02) and not check["repaired"]
    assert answer.err.count("+30% off the table's: timed again") == 2
    assert "+30% off the table's: the table is left as it is" in answer.err


def test_a_device_that_is_disturbed_for_a_while_is_waited_for(amc, device, tiny, tmp_path):
    config, folder = settings(tiny, tmp_path), tmp_path / "run"
    _profile_first(amc, config, folder)
    begun = device.calls
    device.factor, device.drift = 1.12, lambda _seconds: 1.3 if device.calls < begun + 2 else 1.0
    answer = amc("search", "--config", config, "--out", folder)
    assert answer.code == 0, answer.err
    first, *_others, last = settled(folder)["checks"]
    assert first["drift"] == pytest.approx(1.0, rel=0.02) and first["repaired"]
    assert abs(last["error"]) < 0.03


def _profile_first(amc, config, folder) -> None:
    """The table, made while the device still is what it was."""
    from amc_mobile import config as configuration
    from amc_mobile.cli.pipeline import Pipeline, open_run

    loaded = configuration.load(config).model_copy(update={"out": folder})
    Pipeline(open_run(loaded), loaded).run(("train", "graph", "profile"))
    assert RunFolder(folder).table.is_file()
