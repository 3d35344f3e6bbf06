"""Sweep files: what they mean, and one line for what is wrong in them."""

from __future__ import annotations

import re

import pytest

from amc_mobile.errors import ConfigError
from amc_mobile.sections.budget import BudgetConfig
from amc_mobile.sweep.settings import budget_name, load, with_options


@pytest.fixture
def write(tmp_path):
    def to(name: str, text: str):
        path = tmp_path / name
        path.write_text(text)
        return path

    return to


def test_a_run_file_is_a_sweep_of_one(write):
    settings, run = load(write("run.toml", "seed = 3\n[budget]\nmacs = 0.5\n"))
    assert not (settings.devices or settings.budgets or settings.seeds)
    assert (run.seed, run.budget.macs) == (3, 0.5)


def test_sections_win_over_the_base_one_setting_at_a_time_and_a_budget_as_a_whole(write):
    write("base.toml", "seed = 3\n[search]\nepisodes = 7\nhidden = 16\n[budget]\nmacs = 0.5\n")
    text = '[sweep]\nbase = "base.toml"\nseeds = [1, 2]\n[search]\nepisodes = 9\n[budget]\nlatency = "20ms"\n'
    settings, run = load(write("sweep.toml", text))
    assert settings.seeds == [1, 2]
    assert (run.seed, run.search.episodes, run.search.hidden) == (3, 9, 16)
    assert (run.budget.latency, run.budget.macs) == ("20ms", None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[sweep]\nphones = ['a']\n", "sweep.phones: Extra inputs"),
        ("[sweep]\nbudgets = [{latency = 1.5}]\n", "sweep.budgets.0.latency"),
        ("[sweep]\nagents = ['alphago']\n", "sweep.agents.0"),
        ("[sweep]\nseeds = [1, 1]\n", "seeds: 1 stands there twice"),
        ("[sweep]\ndevices = ['a']\ntables = {b = 'b.json'}\n", "tables: b is none of the devices"),
        ("[sweep]\nbase = 'nowhere.toml'\n", "cannot read config"),
        ("[sweep]\nbase = 3\n", "sweep.base must be the path"),
        ("sweep = 3\n", "sweep must be a section"),
        ("[search]\nepisodes = 0\n", "search.episodes"),
        ("[sweep\n", "is not TOML"),
    ],
)
def test_what_is_wrong_is_one_line(write, text, why):
    with pytest.raises(ConfigError, match=re.escape(why)) as found:
        load(write("sweep.toml", text))
    assert "\n" not in str(found.value)


def test_options_replace_lists_and_nothing_given_replaces_nothing(write):
    settings, _ = load(write("sweep.toml", "[sweep]\nseeds = [1, 2]\nbudgets = [{latency = 0.5}]\ncpus = 2\n"))
    changed = with_options(settings, {"seeds": [5], "budgets": [], "agents": None, "cpus": None})
    assert (changed.seeds, changed.cpus) == ([5], 2)
    assert changed.budgets == settings.budgets
    with pytest.raises(ConfigError, match=r"budgets\.0\.latency"):
        with_options(settings, {"budgets": [{"latency": "fast"}]})


@pytest.mark.parametrize(
    ("budget", "name"),
    [
        ({"latency": 0.5}, "latency0.5"),
        ({"latency": "20 ms", "bytes": "8MB"}, "latency20ms-bytes8MB"),
        ({}, "least"),
        ({"also": [{"table": "tables/pixel/x.json", "latency": 0.5}]}, "pixel0.5"),
    ],
)
def test_names_of_budgets(budget, name):
    assert budget_name(BudgetConfig.model_validate(budget)) == name
