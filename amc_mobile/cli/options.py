"""Options that several commands share, each with its help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_mobile.errors import ConfigError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and where it is known how long; do nothing.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder: everything that is made goes there.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random choice (default 0).")]
_DEVICE = (
    "Where to measure: host (this machine's processor), cuda (its GPU), or a phone: its name in devices.toml, "
    "serial number, HOST:PORT, or part of its model's name."
)
DeviceName = Annotated[str | None, typer.Option("--device", help=_DEVICE)]
DeviceNames = Annotated[
    list[str] | None, typer.Option("--device", help=f"{_DEVICE} May be repeated; all is every phone that is ready.")
]
Provider = Annotated[
    str | None, typer.Option("--provider", help="Of a phone's ONNX Runtime: cpu, xnnpack, nnapi, qnn (default cpu).")
]
Threads = Annotated[int | None, typer.Option("--threads", help="Threads of the measured network (default 1).")]
Precision = Annotated[
    str | None, typer.Option("--precision", help="fp32, int8 (static QDQ, on CPUs), fp16, bf16 (on GPUs).")
]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Images that run at once (default 1).")]
Cores = Annotated[str | None, typer.Option("--cores", help="Measure on these cores only: 0,2.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Use a table even if its own error is above 5 %; measure a phone that is hot or low on battery."
    ),
]
Elsewhere = Annotated[
    bool, typer.Option("--elsewhere", help="The table is of a device that is not here: search for that device.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Remove what the run folder holds of this run and start over.")]
Update = Annotated[bool, typer.Option("--update", help="Take changed settings and redo just what depends on them.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with the settings not given here.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="state_dict file of the trained network.")]
Skip = Annotated[
    list[str] | None, typer.Option("--skip", help="A layer that keeps all its channels, in and out. May be repeated.")
]
Run = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]

# The search. Choices are spelt out here: sections/search.py, which knows them, is too slow to import for a help text.
Agent = Annotated[
    str | None,
    typer.Option(
        "--agent",
        help="Who searches: auto (the good ones, best of all wins), ddpg (as published), ddpg-warm, sb3-ddpg, sb3-td3, "
        "uniform, shallow, deep, random, sensitivity, greedy, knapsack, netadapt (default auto).",
    ),
]
Protocol = Annotated[
    str | None,
    typer.Option(
        "--protocol", help="resource: best accuracy within the budget. accuracy: least cost within --max-loss."
    ),
]
MaxLoss = Annotated[
    float | None,
    typer.Option("--max-loss", help="What --protocol accuracy may lose on the search images (default 0.01)."),
]
Reward = Annotated[
    str | None,
    typer.Option(
        "--reward", help="top1, top5 (detectors: map, map50), or kl: divergence from the original, no labels needed."
    ),
]
Granularity = Annotated[
    str | None,
    typer.Option(
        "--granularity",
        help="channel, or weight: single weights become zero (fine-grained); no file is smaller and nothing faster.",
    ),
]
Episodes = Annotated[int | None, typer.Option("--episodes", help="Episodes of the agent (default 400).")]
Evaluations = Annotated[
    int | None,
    typer.Option(
        "--evaluations", help="At most so many networks are evaluated, before the refinement (default: no limit)."
    ),
]
Importance = Annotated[
    str | None,
    typer.Option(
        "--importance",
        help="What stays: reconstruction, activation, l1, and for channels also taylor, fpgm, hrank.",
    ),
]
NoRacing = Annotated[
    bool, typer.Option("--no-racing", help="Evaluate every network on all images, even if it cannot win any more.")
]
Evaluator = Annotated[
    str | None, typer.Option("--evaluator", help="auto (torch if there is a GPU), onnxruntime, torch.")
]

# Training. As for the search, what each setting is by default stands in sections/.
LearningRate = Annotated[
    float | None, typer.Option("--learning-rate", help="At its peak: rises at first, then falls along a cosine.")
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Images of one step, of all processes together.")
]
Distillation = Annotated[
    float | None, typer.Option("--distillation", help="Share of the loss that imitates the original network.")
]
LabelSmoothing = Annotated[
    float | None, typer.Option("--label-smoothing", help="Share of each label that all classes get alike.")
]
Ema = Annotated[
    float | None, typer.Option("--ema", help="Decay of the moving average of the weights that counts; 0: none.")
]
ValidationImages = Annotated[
    int | None,
    typer.Option("--validation-images", help="Training images set aside; the epoch that is best on them counts."),
]
Patience = Annotated[
    int | None, typer.Option("--patience", help="Stop after so many epochs that are no better on --validation-images.")
]
TrainPrecision = Annotated[
    str | None, typer.Option("--train-precision", help="auto (16 bits on a GPU), fp32, bf16, fp16.")
]
BatchNorm = Annotated[
    str | None,
    typer.Option("--batch-norm", help="train, frozen, or auto: frozen where its statistics were never estimated."),
]

Point = Annotated[
    int | None,
    typer.Option("--point", min=0, help="The trial whose widths are cut, for example of `amc search --pareto`."),
]
Mean = Annotated[
    str | None,
    typer.Option("--mean", help="Of the images the network was trained with, per channel: 0.485,0.456,0.406."),
]
Std = Annotated[str | None, typer.Option("--std", help="As --mean: 0.229,0.224,0.225.")]


def core_list(text: str | None) -> list[int] | None:
    """The numbers of cores like "0,2"; None for None. Raises: ConfigError."""
    if text is None:
        return None
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise ConfigError(f"--cores {text!r} is no list of cores; type it like --cores 0,2")
    return [int(part) for part in text.split(",")]


def numbers(text: str | None, option: str) -> list[float] | None:
    """The numbers of a list like "0.485,0.456,0.406"; None for None. Raises: ConfigError."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"{option} {text!r} is no list of numbers; type it like {option} 0.485,0.456,0.406"
        ) from error


def further_devices(given: list[str] | None) -> list[dict[str, str]] | None:
    """Entries of `budget.also` from TABLE.json=20ms; None for none. Raises: ConfigError."""
    entries = [text.rpartition("=") for text in given or []]
    wrong = next(
        (text for text, (table, _, limit) in zip(given or [], entries, strict=True) if not (table and limit)), ""
    )
    if wrong:
        raise ConfigError(
            f"--also {wrong!r} names no table and limit; type it like --also latency_tables/a/b.json=20ms"
        )
    return [{"table": table, "latency": limit} for table, _, limit in entries] or None
