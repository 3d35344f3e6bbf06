"""The settings of a run and of a transfer: TOML in, resolved TOML out. The paper's values are the defaults.

A tree of sections, each of which stands in `sections`. He et al., ECCV 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from amc_mobile.errors import ConfigError
from amc_mobile.sections.bench import BenchConfig
from amc_mobile.sections.budget import BUDGET_METRICS, BudgetConfig, FurtherDevice
from amc_mobile.sections.data import DataConfig, TransferDataConfig
from amc_mobile.sections.device import DeviceConfig
from amc_mobile.sections.finetune import FinetuneConfig, TransferFinetuneConfig
from amc_mobile.sections.int8 import Int8Config
from amc_mobile.sections.model import ModelConfig
from amc_mobile.sections.profile import ProfileConfig
from amc_mobile.sections.prune import PruneConfig
from amc_mobile.sections.search import SearchConfig, default_reward
from amc_mobile.sections.section import Section
from amc_mobile.sections.train import RECIPES, TrainConfig
from amc_mobile.toml_files import describe, read_toml, write_toml
from amc_mobile.types import ACCURACIES

ContenderName = Literal["pruned", "original", "uniform", "scratch"]


class RunConfig(Section):
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
        return self.train if self.train.epochs is not None else RECIPES.get(self.model.name, self.train)

    @property
    def needs_table(self) -> bool:
        """Whether the search depends on this device's latency: it has a limit, or is what there is to minimise."""
        return self.budget.latency is not None or not (self.budget.limits() or self.budget.also)

    @property
    def refines(self) -> bool:
        """Whether the winner is improved as it will be repaired: an agent by name is left alone, and a detector is."""
        wanted = self.refinements > 0 and self.prune.refresh and self.prune.reconstruct and self.search.agent == "auto"
        suits = self.search.granularity == "channel" and self.search.protocol == "resource"
        return wanted and suits and self.model.purpose == "classification"

    @property
    def refinements(self) -> int:
        """At most so many networks are judged for that: never more than the search had episodes."""
        return min(self.prune.refine, self.search.episodes)

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


class TransferConfig(Section):
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


def _plain(section: Any) -> Any:
    """A section as it was written: what is only a default is left out."""
    return section.model_dump(exclude_unset=True) if isinstance(section, BaseModel) else section


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


def dump(config: RunConfig | TransferConfig) -> str:
    """The resolved config as TOML: every value, defaults included. Unset options are left out."""
    return write_toml(config.model_dump(mode="json", exclude_none=True))
