"""The settings of `amc demo`: sized to end within minutes on two cores."""

from __future__ import annotations

from pathlib import Path

from amc_mobile.config import (
    BenchConfig,
    BudgetConfig,
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    ProfileConfig,
    RunConfig,
    SearchConfig,
)


def demo_config() -> RunConfig:
    """Half the latency of a small network for scikit-learn's handwritten digits, on this machine."""
    return RunConfig(
        out=Path("runs/demo"),
        model=ModelConfig(name="digits"),
        data=DataConfig(name="digits", search_images=300, calibration_images=200, test_images=500),
        # A noisy machine shall not end the demo: the report says how far the table is off.
        profile=ProfileConfig(rounds=3, min_time_s=0.3, force=True),
        budget=BudgetConfig(latency=0.5),
        search=SearchConfig(episodes=150, round_to=8),
        finetune=FinetuneConfig(epochs=6),
        bench=BenchConfig(rounds=9, min_time_s=0.3),
    )
