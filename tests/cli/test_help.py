"""Help costs nothing: no heavy library is imported for it. Import lists are checked, not the clock."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import get_args

import pytest
import typer

from amc_mobile.cli import main
from amc_mobile.sections.finetune import FinetuneConfig
from amc_mobile.sections.prune import PruneConfig
from amc_mobile.sections.search import AgentName, SearchConfig


def _choices(section, setting):
    return get_args(section.model_fields[setting].annotation)


VERBS = (
    "demo",
    "run",
    "sweep",
    "search",
    "prune",
    "finetune",
    "export",
    "report",
    "why",
    "transfer",
    "profile",
    "bench",
    "devices",
    "doctor",
    "graph",
    "compare",
    "table",
    "table show",
    "table validate",
    "table diff",
)
HEAVY = (
    "ray",
    "torch",
    "torchvision",
    "pandas",
    "numpy",
    "scipy",
    "sklearn",
    "onnx",
    "onnxruntime",
    "matplotlib",
    "jinja2",
)


def test_no_help_imports_a_heavy_library():
    lines = [["--help"], *([*verb.split(), "--help"] for verb in VERBS)]
    code = (
        "import sys; from amc_mobile.cli.main import run\n"
        f"for line in {lines}: assert run(line) == 0, line\n"
        f"found = [name for name in {HEAVY} if name in sys.modules]; assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_verb_stands_in_the_help(amc):
    text = amc("--help").out
    assert all(verb.split()[0] in text for verb in VERBS)


def test_every_command_and_option_says_what_it_does():
    command = typer.main.get_command(main.app)
    for verb in VERBS:
        found = command
        for part in verb.split():
            found = found.commands[part]
        assert found.help, verb
        assert all(parameter.help for parameter in found.params), [item.name for item in found.params if not item.help]


@pytest.mark.parametrize(
    ("option", "choices"),
    [
        ("--agent", get_args(AgentName)),
        ("--protocol", _choices(SearchConfig, "protocol")),
        ("--reward", _choices(SearchConfig, "reward")),
        ("--granularity", _choices(SearchConfig, "granularity")),
        ("--evaluator", _choices(SearchConfig, "evaluator")),
        ("--importance", _choices(PruneConfig, "importance")),
        ("--train-precision", _choices(FinetuneConfig, "precision")),
        ("--batch-norm", _choices(FinetuneConfig, "batch_norm")),
    ],
)
def test_help_names_every_choice(option, choices):
    """The help spells them out, because importing what knows them takes too long."""
    commands = typer.main.get_command(main.app).commands
    params = [parameter for verb in ("search", "finetune") for parameter in commands[verb].params]
    said = next(parameter.help for parameter in params if option in parameter.opts)
    assert set(choices) <= set(re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", said))
