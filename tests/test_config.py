"""Settings: TOML in, the same TOML out; every mistake is named, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile import config as configuration
from amc_mobile.amounts import Amount, parse
from amc_mobile.cli.settings import override
from amc_mobile.config import RunConfig
from amc_mobile.errors import ConfigError
from amc_mobile.sections.budget import BudgetConfig, FurtherDevice
from amc_mobile.sections.model import ModelConfig
from amc_mobile.sections.search import SearchConfig
from amc_mobile.sweep.settings import load as load_sweep


def load_text(tmp_path: Path, text: str) -> RunConfig:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return configuration.load(path)


def test_an_empty_file_is_the_defaults(tmp_path):
    assert load_text(tmp_path, "") == RunConfig()


def test_the_papers_values_are_the_defaults():
    search = SearchConfig()
    assert (search.episodes, search.warmup_episodes, search.hidden) == (400, 100, 300)
    assert (search.tau, search.batch_size, search.gamma, search.noise_sigma) == (0.01, 64, 1.0, 0.5)


@given(
    seed=st.integers(0, 2**31),
    name=st.text(min_size=1, max_size=30),
    weights=st.one_of(st.none(), st.just(Path('a "quoted" name.pt'))),
    ridge=st.floats(0, 1e3),
    macs=st.floats(1e-6, 1.0),
    latency=st.sampled_from([None, 0.5, "20ms", "1.5e3 us"]),
    devices=st.lists(st.sampled_from(["a.json", 'b "c".json']), max_size=2),
)
def test_what_is_written_is_read_back(tmp_path_factory, seed, name, weights, ridge, macs, latency, devices):
    config = RunConfig(
        seed=seed,
        model=ModelConfig(name=name, weights=weights, mean=[0.5, 0.25]),
        budget=BudgetConfig(
            macs=macs,
            latency=latency,
            also=[FurtherDevice(table=table, latency="9ms", round_to=4) for table in devices],
        ),
        prune=RunConfig().prune.model_copy(update={"ridge": ridge}),
    )
    assert load_text(tmp_path_factory.mktemp("config"), configuration.dump(config)) == config


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("seed = ", "is not TOML"),
        ("colour = 3", "colour"),
        ("[search]\nepisodes = 0", "search.episodes"),
        ("[search]\nreward = 'speed'", "search.reward"),
        ("[budget]\nlatency = 1.5", "budget.latency"),
        ("[budget]\nlatency = 20", "budget.latency.*a share of the original's.*20ms, 800us"),
        ("[budget]\nbytes = '8 Mb'", "budget.bytes.*8MB, 7.5MiB"),
        ("[budget]\nalso = [{table = 'a.json', latency = 'soon'}]", "budget.also.0.latency.*20ms"),
        ("[budget]", "budget: set at least one of latency, macs, params, bytes, memory"),
        ("[profile]\ncarriers = 'many'", "profile.carriers"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(tmp_path, text, named):
    with pytest.raises(ConfigError, match=named) as caught:
        load_text(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_reported_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, "[search]\nepisodes = 0\ntau = 2\n[data]\nname = 3")
    assert all(path in str(caught.value) for path in ("search.episodes", "search.tau", "data.name"))


def test_a_file_of_a_sweep_says_what_to_type(tmp_path):
    with pytest.raises(ConfigError, match=r"is of many runs: type `amc sweep .*toml`"):
        load_text(tmp_path, "[sweep]\nseeds = [1]")


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot read config"):
        configuration.load(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("configs/*.toml")), ids=lambda path: path.stem)
def test_the_example_configs_are_valid_and_name_no_place_of_one_machine(path):
    config = load_sweep(path)[1] if "[sweep]" in path.read_text() else configuration.load(path)
    assert not any(
        Path(name).is_absolute() for name in (config.data.name, config.data.test or "", config.model.weights or "")
    )


@pytest.mark.parametrize(
    ("metric", "written", "value", "relative"),
    [
        ("latency_us", 0.7, 0.7, True),
        ("latency_us", "0.7", 0.7, True),
        ("latency_us", "1", 1.0, True),
        ("latency_us", "20ms", 20_000.0, False),
        ("latency_us", "800 us", 800.0, False),
        ("latency_us", "0.5ms", 500.0, False),
        ("latency_us", "0.25 s", 250_000.0, False),
        ("macs", "150M", 150e6, False),
        ("macs", "1.2G", 1.2e9, False),
        ("params", "350k", 350e3, False),
        ("bytes", "8MB", 8e6, False),
        ("bytes", "8MiB", 8 * 2.0**20, False),
        ("memory_bytes", "900kB", 900e3, False),
    ],
)
def test_limits_are_shares_or_amounts(metric, written, value, relative):
    assert parse(written, metric) == Amount(value, relative)


@pytest.mark.parametrize(
    ("metric", "written"),
    [
        *(("latency_us", text) for text in ("20", "0", "-1ms", "ms", "20 MB", "inf", "nan ms", "1e999ms", "", "2 0ms")),
        *(("bytes", text) for text in ("8Mb", "8M", "1.5", "0MB")),
        *(("macs", text) for text in ("150m", "150MB", "2")),
    ],
)
def test_what_is_no_limit_is_told_the_forms(metric, written):
    with pytest.raises(ValueError, match=r"is no limit: give a share of the original's from 0 to 1 \(0\.5\), or a"):
        parse(written, metric)


def test_several_devices_get_the_widths_that_suit_all():
    further = [{"table": "a.json", "latency": 0.5, "round_to": 12}, {"table": "b.json", "latency": 1, "name": "b"}]
    config = RunConfig.model_validate({"budget": {"also": further}})
    assert config.search_widths() == (0.2, 24)  # multiples of the search's 8 and of 12
    assert config.profile_widths() == (0.2, 8)
    own = RunConfig.model_validate(
        {"device": {"round_to": 4, "min_keep_ratio": 0.3}, "budget": {"also": [{**further[0], "min_keep_ratio": 0.25}]}}
    )
    assert own.profile_widths() == (0.3, 4)
    assert own.search_widths() == (0.3, 12)


def test_an_accuracy_guaranteed_search_needs_no_budget():
    config = RunConfig.model_validate({"search": {"protocol": "accuracy"}})
    assert not config.budget.limits()
    assert config.needs_table  # the latency is what is to become small
    minimised = RunConfig.model_validate({"search": {"protocol": "accuracy"}, "budget": {"macs": 1.0}})
    assert not minimised.needs_table


def test_a_table_of_this_device_is_needed_for_its_own_latency_only():
    assert RunConfig().needs_table
    assert not RunConfig.model_validate({"budget": {"memory": "3MB"}}).needs_table
    assert not RunConfig.model_validate({"budget": {"also": [{"table": "a.json", "latency": "2ms"}]}}).needs_table
    assert RunConfig.model_validate({"budget": {"latency": "2ms", "bytes": 0.5}}).needs_table


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ({}, "classification"),
        ({"name": "ssdlite320_mobilenet_v3_large"}, "detection"),
        ({"name": "fasterrcnn_resnet50_fpn"}, "detection"),
        ({"name": "mynets:build", "task": "detection"}, "detection"),
        ({"name": "mynets:build"}, "classification"),
    ],
)
def test_the_task_follows_from_the_name_unless_it_is_said(model, task):
    config = RunConfig.model_validate({"model": model})
    assert config.model.purpose == task
    assert config.search.reward == {"classification": "top1", "detection": "map"}[task]
    assert config.refines == (task == "classification")  # nothing refreshes a detector


def test_a_reward_must_be_of_the_task():
    detector = {"name": "ssd300_vgg16"}
    assert RunConfig.model_validate({"model": detector, "search": {"reward": "kl"}}).search.reward == "kl"
    with pytest.raises(ValueError, match="detection has no top1; choose one of map, map50, kl"):
        RunConfig.model_validate({"model": detector, "search": {"reward": "top1"}})
    with pytest.raises(ValueError, match="classification has no map"):
        RunConfig.model_validate({"search": {"reward": "map"}})


def test_another_network_on_the_command_line_brings_the_reward_of_its_task():
    assert override(RunConfig(), {"model.name": "ssd300_vgg16"}).search.reward == "map"
    detector = RunConfig.model_validate({"model": {"name": "ssd300_vgg16"}})
    assert override(detector, {"search.episodes": 3}).search.reward == "map"
    assert override(detector, {"model.name": "digits"}).search.reward == "top1"
    loose = RunConfig.model_validate({"model": {"name": "ssd300_vgg16"}, "search": {"reward": "map50"}})
    assert override(loose, {"search.episodes": 3}).search.reward == "map50"
