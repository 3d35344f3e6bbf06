"""One tree of settings: TOML in, resolved TOML out. The paper's values are the defaults (He et al., ECCV 2018)."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from amc_mobile.amounts import Amount, parse
from amc_mobile.errors import ConfigError
from amc_mobile.types import ACCURACIES, Metric, Precision, RangeMethod, RewardName, TaskName

AgentName = Literal[
    "auto",
    "ddpg",
    "ddpg-warm",
    "sb3-ddpg",
    "sb3-td3",
    "uniform",
    "shallow",
    "deep",
    "random",
    "sensitivity",
    "greedy",
    "knapsack",
    "netadapt",
]


DETECTORS = ("ssd300_", "ssdlite", "fasterrcnn_")  # how the names of torchvision's begin


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Section):
    """Which trained network."""

    name: str = Field("digits", description="a network's name, your own package.module:function, or FILE.onnx")
    weights: Path | None = Field(None, description="state_dict file; none: train as [train] says")
    mean: list[float] | None = Field(None, description="per channel, of pixels in 0..1; none: what the network expects")
    std: list[float] | None = Field(None, description="per channel, of pixels in 0..1; none: what the network expects")
    task: TaskName | None = Field(None, description="none: 'detection' for torchvision's detectors by name")
    classes: int | None = Field(None, ge=1, description="of a detector, without the background; none: as published")
    image_size: int | None = Field(
        None, ge=32, description="height and width that a detector reads; none: as published"
    )
    skip: list[str] = Field([], description="layers that keep all their channels, in and out; `amc graph` names them")

    @property
    def onnx(self) -> Path | None:
        """The ONNX file, where that is all there is of the network."""
        return Path(self.name) if Path(self.name).suffix == ".onnx" else None

    @property
    def purpose(self) -> TaskName:
        """What the network is for."""
        by_name: TaskName = "detection" if self.name.startswith(DETECTORS) else "classification"
        return self.task or by_name


class DataConfig(_Section):
    """Which images, and how many of them for what. The search never sees the test images."""

    name: str = Field(
        "digits",
        description="'digits', 'cifar10:DIR', 'imagefolder:DIR', or a .npz / .zip file; for detection 'shapes', "
        "'coco:DIR', 'voc:DIR'",
    )
    test: str | None = Field(None, description="a second source whose images are used for testing only")
    search_images: int = Field(500, ge=1, description="labelled images that score every episode")
    calibration_images: int = Field(300, ge=1, description="images for the least-squares repair (paper: 300-3000)")
    test_images: int | None = Field(None, ge=1, description="none: all that are left for testing")
    train_images: int | None = Field(None, ge=0, description="none: all the rest")


class DeviceConfig(_Section):
    """Where the network must be fast."""

    name: str = Field(
        "host",
        description="'host', 'cuda', 'cuda:1', 'cuda-ort', or a phone: its alias in devices.toml, serial number, "
        "HOST:PORT, or part of its model's name",
    )
    threads: int = Field(1, ge=1, le=64)
    precision: Precision = Field("fp32", description="'int8': static QDQ, on CPUs; 'fp16', 'bf16': on GPUs")
    batch: int = Field(1, ge=1, description="images that run at once")
    cores: list[int] | None = Field(
        None, description="measure on these cores only; none: where the system likes, on a phone its strongest cores"
    )
    provider: Literal["cpu", "xnnpack", "nnapi", "qnn"] = Field("cpu", description="of a phone's ONNX Runtime")
    optimisation: Literal["all", "extended", "basic"] = Field("all", description="ONNX Runtime graph optimisation")
    round_to: int | None = Field(None, ge=1, description="what suits this device; none: search.round_to")
    min_keep_ratio: float | None = Field(None, gt=0.0, le=1.0, description="none: search.min_keep_ratio")


class ProfileConfig(_Section):
    """How the latency table is measured (the carrier table)."""

    method: Literal["auto", "nodes", "layers"] = Field(
        "auto",
        description="'nodes': layers by the runtime's own times inside the carriers; 'layers': each layer as a model "
        "of its own, with cold caches; 'auto': nodes where the device gives their times",
    )
    carriers: int = Field(16, ge=4, description="randomly pruned variants, beside the full and the smallest network")
    rounds: int = Field(3, ge=1)
    warmups: int = Field(10, ge=1)
    runs: int = Field(50, ge=5)
    min_time_s: float = Field(1.0, ge=0.0)
    max_error: float = Field(0.05, gt=0.0, description="refuse a table whose leave-one-out error is larger")
    tolerance: float = Field(
        0.03, ge=0.0, description="after a search the chosen network is timed; a table that is off by more is repaired"
    )
    repairs: int = Field(2, ge=0, description="at most so often; 0: the chosen network is not timed")
    force: bool = Field(False, description="use a table above max_error anyway")
    table: Path | None = Field(None, description="a table measured before on this device; none: measure now")
    elsewhere: bool = Field(False, description="the table is of a device that is not here: search for that one")


class FurtherDevice(_Section):
    """A limit on the latency on one more device, by its table of this network."""

    table: Path
    latency: float | str = Field(description="a share of the original's latency there, or a time such as '20ms'")
    name: str | None = Field(None, description="none: the name in the table")
    round_to: int | None = Field(None, ge=1, description="what suits this device; none: any")
    min_keep_ratio: float | None = Field(None, gt=0.0, le=1.0, description="none: any")

    @field_validator("latency")
    @classmethod
    def _is_an_amount(cls, written: float | str) -> float | str:
        return _normal(written, "latency_us")

    def limit(self) -> Amount:
        """The limit as a number."""
        return parse(self.latency, "latency_us")


class BudgetConfig(_Section):
    """The limits, all of which hold at once: shares of the original network's cost, or amounts with a unit."""

    latency: float | str | None = Field(None, description="a share, or a time: 0.5, '20ms', '800us'")
    macs: float | str | None = Field(None, description="a share, or a count: 0.5, '150M'")
    params: float | str | None = Field(None, description="a share, or a count: 0.5, '2M'")
    bytes: float | str | None = Field(None, description="of the ONNX file; a share, or a size: 0.5, '8MB', '8MiB'")
    memory: float | str | None = Field(None, description="peak of the activations; a share, or a size: 0.5, '3MB'")
    also: list[FurtherDevice] = Field([], description="limits on the latency on further devices")

    @field_validator("latency", "macs", "params", "bytes", "memory")
    @classmethod
    def _is_an_amount(cls, written: float | str | None, info: ValidationInfo) -> float | str | None:
        return None if written is None else _normal(written, BUDGET_METRICS[str(info.field_name)])

    def limits(self) -> dict[Metric, Amount]:
        """The limits that are set on this device, by metric."""
        written = {metric: getattr(self, name) for name, metric in BUDGET_METRICS.items()}
        return {metric: parse(value, metric) for metric, value in written.items() if value is not None}


BUDGET_METRICS: dict[str, Metric] = {
    "latency": "latency_us",
    "macs": "macs",
    "params": "params",
    "bytes": "bytes",
    "memory": "memory_bytes",
}  # what each setting of a budget limits


def default_reward(task: TaskName) -> RewardName:
    """What the agent is paid by where nothing is said: the task's strict accuracy."""
    return ACCURACIES[task][0]


def _plain(section: Any) -> Any:
    """A section as it was written: what is only a default is left out."""
    return section.model_dump(exclude_unset=True) if isinstance(section, BaseModel) else section


def _normal(written: float | str, metric: Metric) -> float | str:
    """A share as a number, however it was written; an amount as it was written."""
    amount = parse(written, metric)
    return amount.value if amount.relative else str(written).strip()


class SearchConfig(_Section):
    """AMC's search. Rewards: R_err = -error by the task's accuracy; 'kl' is minus the divergence from the original."""

    agent: AgentName = Field("auto", description="who searches; 'auto' runs the good ones and returns the best")
    protocol: Literal["resource", "accuracy"] = Field(
        "resource", description="'resource': best accuracy within the budget; 'accuracy': least cost within max_loss"
    )
    max_loss: float = Field(
        0.01, ge=0, lt=1, description="protocol 'accuracy': what the reward's accuracy may lose on the search images"
    )
    granularity: Literal["channel", "weight"] = Field("channel", description="'weight': fine-grained pruning")
    episodes: int = Field(400, ge=1)
    evaluations: int | None = Field(
        None, ge=1, description="at most so many networks are evaluated, sensitivities included; none: no limit"
    )
    racing: bool = Field(True, description="stop evaluations that cannot win any more; what is stopped never wins")
    evaluator: Literal["auto", "onnxruntime", "torch"] = Field(
        "auto", description="'auto': torch if there is a GPU, else ONNX Runtime on the CPU"
    )
    warmup_episodes: int = Field(
        100, ge=0, description="episodes of constant noise, at most half of all; warm agents need none"
    )
    reward: RewardName = Field(
        "top1", description="classification: 'top1', 'top5'; detection: 'map' (its default), 'map50'; any: 'kl'"
    )
    min_keep_ratio: float = Field(0.2, gt=0.0, le=1.0)
    round_to: int = Field(
        8, ge=1, description="widths are multiples of this, if that leaves eight choices (four in small groups)"
    )
    latency_margin: float = Field(
        0.01, ge=0, lt=0.5, description="share of a latency budget left to the clock's noise and the table's error"
    )
    random_policies: int = Field(10, ge=0, description="random policies on the budget, among the opponents")
    sensitivity_points: int = Field(5, ge=1, description="widths at which each group alone is evaluated")
    warm_sigma: float = Field(0.1, ge=0, description="warm agents: replaces noise_sigma, the actor begins good")
    guided_share: float = Field(0.6, ge=0, le=1, description="agent auto: share that the guided descent may use")
    local_share: float = Field(
        0.5, ge=0, le=1, description="agent auto: share of the episodes that are random changes to the best policy"
    )
    local_sigma: float = Field(0.1, gt=0, description="width of the noise in those episodes")
    local_groups: float = Field(0.2, gt=0, le=1, description="share of the groups that gets noise in such an episode")
    hidden: int = Field(300, ge=1, description="paper: two hidden layers of 300")
    actor_lr: float = Field(1e-4, gt=0)
    critic_lr: float = Field(1e-3, gt=0)
    tau: float = Field(0.01, gt=0, le=1)
    batch_size: int = Field(64, ge=1)
    gamma: float = Field(1.0, ge=0, le=1)
    replay_per_layer: int = Field(100, ge=1, description="replay capacity = this times the number of groups")
    noise_sigma: float = Field(0.5, ge=0)
    noise_decay: float = Field(0.95, gt=0, le=1, description="per episode after the warm-up")
    baseline_decay: float = Field(0.5, ge=0, lt=1, description="moving average of batch rewards: reference's alpha")
    threads: int | None = Field(None, ge=1, description="cores for evaluation; none: all")


class PruneConfig(_Section):
    """How channels are chosen and the rest is repaired."""

    importance: Literal["reconstruction", "activation", "l1", "taylor", "fpgm", "hrank"] = Field(
        "reconstruction", description="what least squares cannot repair; 'l1' is the paper's"
    )
    reconstruct: bool = Field(True, description="refit by least squares what is left of every layer")
    points_per_image: int = Field(30, ge=1, description="sampled output positions per calibration image (paper: 10)")
    ridge: float = Field(1e-3, ge=0, description="relative to the Gram matrix's mean diagonal")
    refresh: bool = Field(
        True, description="refit the chosen network once more, layer after layer, from what really arrives in it"
    )
    point: int | None = Field(None, ge=0, description="the trial that is cut and ships; none: the winner of the search")


class _Training(_Section):
    """Stochastic gradient descent with momentum: what training and fine-tuning share."""

    learning_rate: float = Field(0.01, gt=0, description="at its peak")
    batch_size: int = Field(64, ge=1, description="of all processes together")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov's")
    weight_decay: float = Field(1e-4, ge=0, description="of weights; biases and batch norms do not decay")
    warmup: float = Field(
        0.1, ge=0, lt=1, description="share of the steps in which the rate rises (Goyal et al. 2017); then a cosine"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each label that all classes get alike (Szegedy et al. 2016)"
    )
    ema: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="moving average of the weights, which is what counts; after t steps at most (1 + t) / (10 + t); "
        "0: none (Polyak and Juditsky 1992)",
    )
    clip: float | None = Field(
        None,
        gt=0,
        description="largest norm of a step's gradient (Pascanu et al. 2013); none: 1 where batch norms are frozen, "
        "else no limit",
    )
    shift: int = Field(2, ge=0, description="pixels by which training images are moved at random")
    flip: bool = Field(False, description="mirror training images half of the time")
    validation_images: int = Field(
        0, ge=0, description="training images set aside; the epoch that is best on them counts; 0: the last epoch"
    )
    patience: int | None = Field(
        None, ge=1, description="stop after so many epochs without a better validation accuracy; none: never"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the arithmetic; 'auto': bf16 (else fp16) on a GPU, fp32 on the CPU"
    )
    reestimate: int = Field(
        0, ge=0, description="training images from which batch norms' statistics are taken anew at the end; 0: none"
    )

    @model_validator(mode="after")
    def _patience_needs_a_judge(self) -> Self:
        if self.patience is not None and self.validation_images == 0:
            raise ValueError("patience needs validation_images: set some aside, for example 1000")
        return self


class TrainConfig(_Training):
    """Training of the original from scratch, where no weights are given."""

    epochs: int | None = Field(
        None, ge=0, description="0: taken as it is built; none: the network's own recipe (digits), else 0"
    )
    learning_rate: float = Field(0.1, gt=0, description="at its peak")
    batch_size: int = Field(128, ge=1, description="of all processes together")
    weight_decay: float = Field(5e-4, ge=0, description="of weights; biases and batch norms do not decay")
    warmup: float = Field(
        0.2, ge=0, lt=1, description="share of the steps in which the rate rises (Goyal et al. 2017); then a cosine"
    )


class FinetuneConfig(_Training):
    """Training after the cut. epochs = 0 leaves the repaired network as it is."""

    epochs: int = Field(0, ge=0)
    distillation: float = Field(
        0.5, ge=0, le=1, description="share of the loss that imitates the original (Hinton et al. 2015)"
    )
    temperature: float = Field(2.0, gt=0, description="softens both answers before they are compared")
    batch_norm: Literal["auto", "train", "frozen"] = Field(
        "auto",
        description="'frozen': statistics stay; 'auto': frozen where they were never estimated, all variances being 1",
    )


_RECIPES = {  # of networks that are trained in seconds wherever they are asked for without weights
    "digits": TrainConfig(epochs=12, learning_rate=0.05, batch_size=32, weight_decay=1e-4, ema=0.0)
}


class Int8Config(_Section):
    """The networks in int8: static QDQ, weights per channel, ranges of activations from calibration images."""

    enabled: bool = Field(
        True, description="quantise original and pruned network, test both, and time them where the device runs fp32"
    )
    method: RangeMethod = Field(
        "minmax",
        description="range of a tensor: 'minmax': all of it; 'percentile': without the outermost values; 'mse': that "
        "with the least squared error of rounding and clipping",
    )
    calibration_images: int = Field(100, ge=1, description="of data.calibration_images, at most all of them")


class BenchConfig(_Section):
    """Original against pruned on the device."""

    rounds: int = Field(9, ge=3)
    warmups: int = Field(10, ge=1)
    runs: int = Field(50, ge=5)
    min_time_s: float = Field(0.5, ge=0.0)


class RunConfig(_Section):
    """Everything one run needs."""

    out: Path = Path("runs/run")
    seed: int = 0
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    device: DeviceConfig = DeviceConfig()
    profile: ProfileConfig = ProfileConfig()
    budget: BudgetConfig = BudgetConfig(latency=0.5)
    search: SearchConfig = SearchConfig()
    prune: PruneConfig = PruneConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    int8: Int8Config = Int8Config()
    bench: BenchConfig = BenchConfig()

    @model_validator(mode="before")
    @classmethod
    def _int8_was_a_setting_of_bench(cls, tree: Any) -> Any:
        if isinstance(tree, dict) and isinstance(bench := tree.get("bench"), dict) and "int8" in bench:
            kept = {key: value for key, value in bench.items() if key != "int8"}
            return {**tree, "bench": kept, "int8": {"enabled": bench["int8"], **tree.get("int8", {})}}
        return tree

    @model_validator(mode="before")
    @classmethod
    def _accuracy_needs_no_budget(cls, tree: Any) -> Any:
        if isinstance(tree, dict) and "budget" not in tree:
            search = tree.get("search", {})
            protocol = search.get("protocol") if isinstance(search, dict) else getattr(search, "protocol", None)
            return {**tree, "budget": BudgetConfig()} if protocol == "accuracy" else tree
        return tree

    @model_validator(mode="before")
    @classmethod
    def _reward_of_the_task(cls, tree: Any) -> Any:
        """A detector is paid by its average precision, where nothing else is said."""
        parts = {name: _plain(tree.get(name, {})) for name in ("model", "search")} if isinstance(tree, dict) else {}
        if not all(isinstance(part, dict) for part in parts.values()) or not parts or "reward" in parts["search"]:
            return tree
        known = {key: parts["model"][key] for key in ("name", "task") if key in parts["model"]}
        if ModelConfig.model_construct(**known).purpose == "detection":
            return {**tree, "search": {**parts["search"], "reward": default_reward("detection")}}
        return tree

    @model_validator(mode="after")
    def _the_task_has_this_reward(self) -> RunConfig:
        task, reward = self.model.purpose, self.search.reward
        if reward != "kl" and reward not in ACCURACIES[task]:
            known = ", ".join((*ACCURACIES[task], "kl"))
            raise ValueError(f"search.reward: {task} has no {reward}; choose one of {known}")
        return self

    @model_validator(mode="after")
    def _a_limit_at_least(self) -> RunConfig:
        if self.search.protocol == "resource" and not self.budget.limits() and not self.budget.also:
            raise ValueError(f"budget: set at least one of {', '.join(BUDGET_METRICS)}")
        return self

    @property
    def training(self) -> TrainConfig:
        """How the original is trained if no weights are given: as [train] says, else by the network's own recipe."""
        return self.train if self.train.epochs is not None else _RECIPES.get(self.model.name, self.train)

    @property
    def needs_table(self) -> bool:
        """Whether the search depends on this device's latency: it has a limit, or is what there is to minimise."""
        return self.budget.latency is not None or not (self.budget.limits() or self.budget.also)

    @property
    def quantises(self) -> bool:
        """Whether the networks are made in int8, too: because it is asked for, or because the device computes so."""
        return self.int8.enabled or self.device.precision == "int8"

    def profile_widths(self) -> WidthRule:
        """The widths at which this device is measured."""
        return _width_rule(self.search, self.device, [])

    def search_widths(self) -> WidthRule:
        """The widths that the search may choose: those that suit every device."""
        return _width_rule(self.search, self.device, self.budget.also)


ContenderName = Literal["pruned", "original", "uniform", "scratch"]


class TransferDataConfig(_Section):
    """Other images than those of the run, with classes of their own."""

    name: str = Field(description="'digits', 'cifar10:DIR', 'imagefolder:DIR', or a .npz / .zip file")
    test: str | None = Field(None, description="a second source whose images are used for testing only")
    train_images: int | None = Field(None, ge=1, description="none: all that are not for testing")
    test_images: int | None = Field(None, ge=1, description="none: those that the source sets aside, or a fourth")


class TransferFinetuneConfig(FinetuneConfig):
    """Training on other images: without epochs the new classifier knows nothing, and nobody knows how to teach it."""

    epochs: int = Field(10, ge=1)
    learning_rate: float = Field(0.05, gt=0, description="at its peak; more than to recover: the images are new")
    distillation: float = Field(0.0, ge=0, le=0, description="always 0: the original does not know these classes")


class TransferConfig(_Section):
    """A run's pruned backbone, trained on other images (He et al. 2018, section 4.3). `amc transfer` writes it."""

    run: Path = Field(description="the run folder that the pruned network comes from")
    out: Path = Field(description="folder of the transfer: everything that is made goes there")
    seed: int = 0
    seeds: int = Field(1, ge=1, description="each network is trained so many times; the first of them ships")
    against: list[Literal["original", "uniform", "scratch"]] = Field(
        [], description="what is trained alike beside the pruned network, to compare with"
    )
    data: TransferDataConfig
    finetune: TransferFinetuneConfig = TransferFinetuneConfig()
    device: DeviceConfig = DeviceConfig()
    bench: BenchConfig = BenchConfig()

    def contenders(self) -> tuple[ContenderName, ...]:
        """The networks that are trained, the pruned one first."""
        return ("pruned", *dict.fromkeys(self.against))


class WidthRule(NamedTuple):
    """What `cost.widths.width_grid` makes its grid from."""

    min_keep_ratio: float
    round_to: int


def _width_rule(search: SearchConfig, device: DeviceConfig, further: Sequence[FurtherDevice]) -> WidthRule:
    """The largest of the devices' least ratios, and the least common multiple of their steps."""
    ratios = [search.min_keep_ratio if device.min_keep_ratio is None else device.min_keep_ratio]
    steps = [device.round_to or search.round_to]
    ratios += [other.min_keep_ratio for other in further if other.min_keep_ratio is not None]
    steps += [other.round_to for other in further if other.round_to is not None]
    return WidthRule(max(ratios), math.lcm(*steps))


Tree = TypeVar("Tree", RunConfig, TransferConfig)


def load(path: Path) -> RunConfig:
    """Reads the TOML file of a run. Raises: ConfigError, naming every wrong entry at once."""
    return load_as(RunConfig, path)


def load_as(kind: type[Tree], path: Path) -> Tree:
    """Reads a TOML file as a tree of that kind. Raises: ConfigError, naming every wrong entry at once."""
    tree = read_toml(path)
    if "sweep" in tree:
        raise ConfigError(f"{path} is of many runs: type `amc sweep {path}`")
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error)}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file. Raises: ConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}; give the path of a TOML file") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise ConfigError(f"{path} is not TOML: {error}") from error


def describe(error: ValidationError) -> str:
    """One line that names every wrong setting by its path, with what was given."""
    parts = [
        f"{'.'.join(map(str, item['loc'])) or 'config'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors()
    ]
    return "; ".join(parts)


def dump(config: RunConfig | TransferConfig) -> str:
    """The resolved config as TOML: every value, defaults included. Unset options are left out."""
    tree = config.model_dump(mode="json", exclude_none=True)
    lines = [f"{key} = {_toml(value)}" for key, value in tree.items() if not isinstance(value, dict)]
    for section, values in tree.items():
        if isinstance(values, dict):
            lines += ["", f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A plain value in TOML, which is nearly JSON; but TOML knows neither surrogates nor a bare DEL."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
