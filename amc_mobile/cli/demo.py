"""The settings of `amc demo`: sized to end within minutes on two cores."""

from __future__ import annotations

from pathlib import Path

from amc_mobile.config import RunConfig
from amc_mobile.sections.bench import BenchConfig
from amc_mobile.sections.budget import BudgetConfig
from amc_mobile.sections.data import DataConfig
from amc_mobile.sections.finetune import FinetuneConfig
from amc_mobile.sections.model import ModelConfig
from amc_mobile.sections.profile import ProfileConfig
from amc_mobile.sections.search import SearchConfig


def demo_config() -> RunConfig:
    """Half the latency of a small network for scikit-learn's handwritten digits, on this machine."""
    return RunConfig(
        out=Path("runs/demo"),
        model=ModelConfig(name="digits"),
        data=DataConfig(name="digits", search_images=300, calibration_images=200, test_images=500),
        # A noisy machine shall not end the demo: the report says how far the table is off.
        profile=ProfileConfig(min_time_s=0.05, force=True),
        budget=BudgetConfig(latency=0.5),
        search=SearchConfig(episodes=150, round_to=8),
        finetune=FinetuneConfig(epochs=6),
        bench=BenchConfig(min_time_s=0.05),
    )
