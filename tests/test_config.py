"""Settings: TOML in, the same TOML out; every mistake is named, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile import config as configuration
from amc_mobile.config import BudgetConfig, ModelConfig, RunConfig, SearchConfig
from amc_mobile.errors import ConfigError


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


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    name=st.text(min_size=1, max_size=30),
    weights=st.one_of(st.none(), st.just(Path('a "quoted" name.pt'))),
    ridge=st.floats(0, 1e3),
    macs=st.floats(1e-6, 1.0),
)
def test_what_is_written_is_read_back(tmp_path_factory, seed, name, weights, ridge, macs):
    config = RunConfig(
        seed=seed,
        model=ModelConfig(name=name, weights=weights, mean=[0.5, 0.25]),
        budget=BudgetConfig(macs=macs),
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
        ("[budget]\nlatency = 0.5\nmacs = 0.5", "exactly one"),
        ("[budget]", "exactly one"),
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


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot read config"):
        configuration.load(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("configs/*.toml")), ids=lambda path: path.stem)
def test_the_example_configs_are_valid_and_name_no_place_of_one_machine(path):
    config = configuration.load(path)
    assert not any(
        Path(name).is_absolute() for name in (config.data.name, config.data.test or "", config.model.weights or "")
    )
