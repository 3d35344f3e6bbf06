"""One config from network to report; done once, never done twice; changed settings redo just what depends on them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from amc_mobile import config as configuration
from amc_mobile.cli import main, session
from amc_mobile.cli.open_device import open_device
from amc_mobile.cli.verbs_stage import open_pipeline
from amc_mobile.cost.table import LatencyTable
from amc_mobile.errors import DeviceError
from amc_mobile.runs import RunFolder, read_json

PROMISED = (
    "accuracy_before",
    "accuracy_after",
    "latency_before_us",
    "latency_after_us",
    "speedup",
    "speedup_ci",
    "predicted_us",
    "prediction_error",
    "budget_us",
    "episodes",
    "report",
)


@pytest.fixture
def at_work(monkeypatch):
    """The names of the stages that really do something."""
    from amc_mobile.cli import pipeline

    done = []
    original = pipeline.Pipeline._do

    def note(self, stage, session, again):
        if again or not self.finished(stage.name):
            done.append(stage.name)
        original(self, stage, session, again)

    monkeypatch.setattr(pipeline.Pipeline, "_do", note)
    return done


def test_json_is_one_object_with_all_that_is_promised(amc, finished, tiny):
    answer = amc("run", tiny, "--out", finished, "--json")
    facts = answer.json()
    assert answer.code == 0
    assert set(PROMISED) <= facts.keys()
    assert facts["predicted_us"] <= facts["budget_us"] * (1 + 1e-9)
    assert facts["macs_after"] < facts["macs_before"]
    assert "complete" in answer.err


def test_every_stage_left_its_files(finished):
    folder = RunFolder(finished)
    files = (folder.config, folder.graph, folder.table, folder.gram, folder.trials, folder.search, folder.policy)
    files += (folder.weights, folder.model_onnx, folder.accuracy, folder.comparison, folder.summary, folder.report)
    assert all(path.is_file() for path in files)
    assert not [path for path in finished.iterdir() if path.suffix in (".tmp", ".partial")]


def test_the_reloaded_module_answers_as_the_shipped_file_does(finished):
    import onnxruntime
    import torch

    from amc_mobile.prune.saved import load

    images = np.random.default_rng(0).normal(size=(3, 1, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(finished / "model.onnx"))
    shipped = np.concatenate([session.run(None, {"input": image[None]})[0] for image in images])
    with torch.inference_mode():
        reloaded = load(finished)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(reloaded, shipped, atol=1e-4 * np.abs(shipped).max())


def test_a_finished_run_is_not_run_again(amc, run_folder, at_work):
    answer = amc("run", run_folder / "config.toml", "--out", run_folder)
    assert answer.code == 0
    assert at_work == []
    assert "report.html" in answer.out


def test_a_lost_file_is_made_again_and_what_follows_still_counts(amc, run_folder, tiny, at_work):
    (run_folder / "report.html").unlink()
    (run_folder / "gram.npz").unlink()
    assert amc("run", tiny, "--out", run_folder).code == 0
    assert at_work == ["calibrate", "report"]


def test_other_settings_are_refused_and_named(amc, run_folder, tiny):
    before = (run_folder / "config.toml").read_bytes()
    answer = amc("run", tiny, "--out", run_folder, "--seed", 7)
    assert answer.code == 1
    assert "seed 0 -> 7" in answer.last_line and "--update" in answer.last_line and "--fresh" in answer.last_line
    assert (run_folder / "config.toml").read_bytes() == before


def test_update_redoes_just_what_depends_on_the_change(amc, run_folder, tmp_path, tiny, at_work):
    changed = tmp_path / "changed.toml"
    changed.write_text(tiny.read_text(encoding="utf-8").replace("[bench]\nrounds = 3", "[bench]\nrounds = 4"))
    assert amc("run", changed, "--out", run_folder, "--update").code == 0
    assert at_work == ["bench", "report"]
    comparison = json.loads((run_folder / "comparison.json").read_text(encoding="utf-8"))
    assert len(comparison["pruned"]["values_us"]) == 4


def test_finetuning_redoes_the_exported_file_and_asks_for_a_new_benchmark(amc, run_folder, at_work):
    weights = (run_folder / "weights.pt").read_bytes()
    assert amc("finetune", run_folder, "--epochs", 1).code == 0
    assert at_work == ["finetune", "export", "quantise"]
    assert (run_folder / "weights.pt").read_bytes() != weights
    assert "bench is not done" in amc("report", run_folder).last_line
    assert amc("bench", run_folder, "--json").json()["speedup"] > 0
    assert amc("bench", run_folder, "--again").code == 0
    assert at_work == ["finetune", "export", "quantise", "bench", "bench"]
    facts = amc("report", run_folder, "--json").json()
    assert facts["accuracy_after"] is not None
    assert json.loads((run_folder / "accuracy.json").read_text(encoding="utf-8"))["finetuned"]


def test_what_was_only_searched_is_pruned_before_its_benchmark(amc, run_folder, at_work):
    for file in ("policy.json", "weights.pt", "model.onnx", "comparison.json"):
        (run_folder / file).unlink()
    assert amc("bench", run_folder).code == 0
    assert at_work == ["prune", "export", "bench", "report"]


def test_what_was_cut_otherwise_is_not_cut_over(amc, run_folder, at_work):
    assert amc("prune", run_folder, "--point", 1).code == 0
    config = run_folder / "config.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("point = 1\n", ""), encoding="utf-8")
    chosen = (run_folder / "model.onnx").read_bytes()
    at_work.clear()
    answer = amc("bench", run_folder)
    assert answer.code == 1
    assert f"export is not done with the present settings; type `amc prune {run_folder}` first" in answer.last_line
    assert at_work == [] and (run_folder / "model.onnx").read_bytes() == chosen


def test_what_is_missing_is_said_with_a_command_that_exists(finished):
    verbs = [command.callback.__name__ for command in main.app.registered_commands]
    pipeline = open_pipeline(finished)
    for stage in pipeline.stages:
        assert pipeline.command_for(stage.name).split()[1] in verbs


def test_pruning_before_a_training_is_left_to_the_run(finished):
    assert open_pipeline(finished, {"finetune.epochs": 3}).command_for("prune") == ""
    assert open_pipeline(finished, {"prune.point": 4}).command_for("prune").endswith(f"prune {finished} --point 4")


def test_what_is_to_be_trained_is_not_measured_before_it_is(amc, run_folder, at_work):
    assert amc("finetune", run_folder, "--epochs", 2).code == 0
    for file in ("weights.pt", "model.onnx"):
        (run_folder / file).unlink()
    answer = amc("bench", run_folder)
    assert answer.code == 1
    assert f"export is not done with the present settings; type `amc finetune {run_folder} --epochs 2` first" in (
        answer.last_line
    )
    assert at_work == ["finetune", "export", "quantise"]


def test_a_network_that_is_cut_again_is_trained_again(amc, run_folder, at_work):
    assert amc("finetune", run_folder, "--epochs", 1).code == 0
    trained = (run_folder / "weights.pt").read_bytes()
    at_work.clear()
    (run_folder / "policy.json").unlink()  # cutting again writes weights.pt, without the training
    assert amc("run", run_folder / "config.toml").code == 0
    assert at_work == ["prune", "finetune", "export", "quantise", "evaluate", "bench", "report"]
    assert (run_folder / "weights.pt").read_bytes() == trained


def test_a_forced_benchmark_forces_no_later_one(amc, run_folder, tmp_path, tiny, monkeypatch):
    config = run_folder / "config.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("force = true", "force = false"), encoding="utf-8")
    forced: list[bool] = []
    monkeypatch.setattr(session, "open_device", lambda device, *, force: forced.append(force) or open_device(device))
    assert amc("bench", run_folder, "--again", "--force").code == 0
    assert amc("bench", run_folder, "--again").code == 0
    assert forced == [True, False]
    assert not configuration.load(config).profile.force


def test_a_report_does_not_credit_a_network_with_the_accuracy_of_an_earlier_one(amc, run_folder):
    assert read_json(run_folder / "report.json")["accuracy"]
    assert amc("finetune", run_folder, "--epochs", 1).code == 0
    assert amc("bench", run_folder).code == 0
    found = read_json(run_folder / "report.json")
    assert found["accuracy"] is None and found["speed"]
    assert amc("report", run_folder).code == 0
    assert read_json(run_folder / "report.json")["accuracy"]


def test_a_device_that_cannot_be_measured_again_costs_nothing(amc, run_folder, monkeypatch):
    before = (run_folder / "comparison.json").read_bytes()

    def gone(*_, **__):
        raise DeviceError("it is gone")

    with monkeypatch.context() as patch:
        patch.setattr(session, "open_device", gone)
        answer = amc("bench", run_folder, "--again")
    assert (answer.code, answer.last_line) == (3, "amc: it is gone")
    assert (run_folder / "comparison.json").read_bytes() == before
    assert amc("report", run_folder).code == 0
    assert amc("bench", run_folder, "--again").code == 0
    assert (run_folder / "comparison.json").read_bytes() != before


def test_what_was_deleted_is_made_again_by_the_command_for_everything(amc, run_folder):
    (run_folder / "accuracy.json").unlink()
    assert amc("run", run_folder / "config.toml", "--out", run_folder).code == 0
    assert (run_folder / "accuracy.json").is_file()
    (run_folder / "report.html").write_text("spoilt")
    assert amc("report", run_folder).code == 0
    assert (run_folder / "report.html").read_text() != "spoilt"


def test_fresh_removes_the_run_and_nothing_else(run_folder, tiny):
    from amc_mobile import config as configuration
    from amc_mobile.cli.pipeline import start_over

    (run_folder / "notes.txt").write_text("mine", encoding="utf-8")
    config = configuration.load(tiny)
    start_over(config.model_copy(update={"out": run_folder}))
    assert sorted(path.name for path in run_folder.iterdir()) == [".lock", "notes.txt"]


def test_a_dry_run_touches_nothing(amc, tiny, tmp_path):
    for line in (("run", tiny), ("demo",), ("search", "--config", tiny)):
        answer = amc(*line, "--out", tmp_path / "run", "--dry-run", "--json")
        assert answer.code == 0
        assert {stage["stage"] for stage in answer.json()["stages"]} >= {"train", "search"}
    assert not (tmp_path / "run").exists()


def test_the_table_of_one_run_serves_a_search_of_other_weights(amc, finished, tiny, tmp_path, module_of):
    """A table belongs to a network's structure: training it again does not make it foreign."""
    import torch

    state = {name: tensor * 1.01 for name, tensor in module_of("digits").state_dict().items()}
    torch.save(state, tmp_path / "other.pt")
    line = ("--weights", tmp_path / "other.pt", "--table", finished / "table.json", "--out", tmp_path / "run")
    answer = amc("search", "--config", tiny, *line, "--episodes", 1, "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["budget"]["metric"] == "latency_us"


def test_tables_are_shown_checked_and_compared(amc, finished):
    table = finished / "table.json"
    shown = amc("table", "show", table, "--json").json()
    assert shown["model"] == "digits" and shown["layers"] > 5
    assert "MACs alone" in amc("table", "show", table).out
    difference = amc("table", "diff", table, table, "--json").json()["latency_us"]
    assert all(first == second for first, second in difference.values())
    assert amc("table", "validate", table, "--file-only", "--max-error", 1000, "--json").json() == shown


def test_two_tables_tell_how_they_were_made_differently(amc, finished, tmp_path):
    one = LatencyTable.load(finished / "table.json")
    other = replace(one, device=replace(one.device, threads=2), rest_us=one.rest_us + 5.0)
    other.save(tmp_path / "other.json")
    told = amc("table", "diff", finished / "table.json", tmp_path / "other.json", "--json").json()
    assert told["made_differently"] == {"threads": ["1", "2"]}
    assert told["latency_us"]["rest"][1] == pytest.approx(told["latency_us"]["rest"][0] + 5.0)
    text = amc("table", "diff", finished / "table.json", tmp_path / "other.json").out
    assert "what differs" in text and "threads" in text


def test_validate_measures_fresh_networks(amc, finished):
    """How good the tiny run's table is does not matter here: it is measured, and the numbers are those of networks."""
    answer = amc("table", "validate", finished / "table.json", "--networks", 3, "--max-error", 1000, "--json")
    assert answer.code == 0, answer.err
    measured = answer.json()["measured"]
    assert len(measured["points"]) == 3
    assert all(point["measured_us"] > 0 and point["predicted_us"] > 0 for point in measured["points"])
    strict = amc("table", "validate", finished / "table.json", "--networks", 2, "--max-error", 1e-9)
    assert strict.code in (1, 4)
    assert "fresh networks" in strict.out and "MACs alone" in strict.out


def test_a_stale_table_is_not_validated(amc, finished, tmp_path):
    table = LatencyTable.load(finished / "table.json")
    replace(table, device=replace(table.device, runtime="onnxruntime 0.1")).save(tmp_path / "stale.json")
    answer = amc("table", "validate", tmp_path / "stale.json")
    assert answer.code == 1
    assert "its runtime is 'onnxruntime 0.1'" in answer.last_line


def test_a_search_for_a_device_that_is_not_here(amc, finished, run_folder, tiny, tmp_path):
    table = LatencyTable.load(finished / "table.json")
    replace(table, device=replace(table.device, model="A Phone")).save(tmp_path / "phone.json")
    line = ("search", "--config", tiny, "--table", tmp_path / "phone.json", "--elsewhere", "--update")
    answer = amc(*line, "--out", run_folder, "--json")
    assert answer.code == 0, answer.err
    assert "the table is of A Phone, which is not here" in answer.err
    assert json.loads((run_folder / "settled.json").read_text())["checks"] == []


def test_dry_run_says_how_many_networks_and_minutes(amc):
    told = amc("profile", "--model", "mobilenet_v2", "--dry-run", "--json").json()
    assert (told["networks"], told["rounds"], told["measurements"]) == (18, 3, 66)
    assert 1.0 < told["minutes"] < 3.0


def test_an_onnx_file_is_shown_and_measured_without_its_source(amc, finished, tiny, tmp_path):
    shown = amc("graph", finished / "original.onnx", "--json").json()
    assert any(group["prunable"] for group in shown["groups"])
    line = ("profile", "--config", tiny, "--model", finished / "original.onnx", "--out", tmp_path, "--json")
    measured = amc(*line).json()
    assert measured["model"] == "original" and measured["validation"]["carriers"] == 6


def test_devices_and_their_health_are_json(amc):
    assert amc("devices", "--json").json()["devices"][0]["name"] == "host"
