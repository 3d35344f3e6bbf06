"""Help costs nothing: no heavy library is imported for it. Import lists are checked, not the clock."""

from __future__ import annotations

import subprocess
import sys

import typer

from amc_mobile.cli import main

VERBS = (
    "demo",
    "run",
    "search",
    "prune",
    "finetune",
    "export",
    "report",
    "profile",
    "bench",
    "devices",
    "doctor",
    "graph",
    "table",
    "table show",
    "table validate",
    "table diff",
)
HEAVY = ("torch", "torchvision", "pandas", "numpy", "scipy", "sklearn", "onnx", "onnxruntime", "matplotlib", "jinja2")


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
