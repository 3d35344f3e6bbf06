"""The import rules of pyproject.toml hold: data flow one way, and ONNX files need no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WITH_TORCH = ("gpu", "torch_graph", "torch_operators", "torch_runner")  # of `device`; imported for a GPU only


def test_import_linter_keeps_every_contract():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_measuring_an_onnx_file_imports_no_torch():
    """What import-linter cannot see: an import that happens at run time, through another library."""
    modules = [
        f"amc_mobile.{path.parent.name}.{path.stem}"
        for folder in ("graph", "cost", "device", "profile", "report")
        for path in sorted((ROOT / "amc_mobile" / folder).glob("*.py"))
        if path.stem != "__init__" and path.stem not in WITH_TORCH
    ]
    code = f"import sys, importlib; list(map(importlib.import_module, {modules})); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"torch was imported, or a module failed:\n{done.stderr}"
