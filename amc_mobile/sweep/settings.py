"""A sweep file: the settings of one run, in the file itself or in a `base` beside it, and a section [sweep].

[sweep]
base = "resnet56_cifar10.toml"       # or the sections of a run in this file; these win over the base
devices = ["pixel", "host"]
budgets = [{latency = 0.7}, {latency = "20ms", macs = 0.5}]
seeds = [0, 1, 2]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from amc_mobile.config import RunConfig
from amc_mobile.errors import ConfigError
from amc_mobile.sections.budget import BudgetConfig
from amc_mobile.sections.search import AgentName
from amc_mobile.toml_files import describe, read_toml


class SweepConfig(BaseModel):
    """What is varied, and what a job may use. An empty list is the one value that the run's own settings have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    devices: list[str] = Field([], description="names as --device takes them; each is measured once")
    budgets: list[BudgetConfig] = Field([], description="sections [budget] of a run: all limits of one hold at once")
    agents: list[AgentName] = Field([], description="who searches")
    seeds: list[int] = Field([], description="of every random choice")
    tables: dict[str, Path] = Field({}, description="latency tables measured before, by the device's name")
    cpus: int = Field(1, ge=1, description="cores of a search; as many jobs run at once as the nodes have cores for")
    gpus: float = Field(0.0, ge=0.0, description="GPUs of a search, also a part of one; 0: a processor evaluates")

    @model_validator(mode="after")
    def _says_each_once(self) -> SweepConfig:
        for name in ("devices", "budgets", "agents", "seeds"):
            values = getattr(self, name)
            if twice := [value for place, value in enumerate(values) if value in values[:place]]:
                raise ValueError(f"{name}: {twice[0]} stands there twice")
        if stray := [name for name in self.tables if self.devices and name not in self.devices]:
            raise ValueError(f"tables: {stray[0]} is none of the devices")
        return self


def load(path: Path) -> tuple[SweepConfig, RunConfig]:
    """What is varied, and the run that it is varied around. A run's own file is a sweep of one.

    Raises: ConfigError, naming every wrong entry at once.
    """
    tree = read_toml(path)
    section = tree.pop("sweep", {})
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: sweep must be a section, [sweep]")
    base = section.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"{path}: sweep.base must be the path of a run's TOML file")
    if base is not None:
        tree = _merged(read_toml(path.parent / base), tree)
    try:
        return SweepConfig.model_validate(section), RunConfig.model_validate(tree)
    except ValidationError as error:
        where = "sweep." if error.title == SweepConfig.__name__ else ""
        raise ConfigError(f"{path}: {where}{describe(error)}") from error


def with_options(config: SweepConfig, given: Mapping[str, object]) -> SweepConfig:
    """The settings with those replaced that the command line gives; None and empty lists leave one as it is.

    Raises: ConfigError.
    """
    changes = {name: value for name, value in given.items() if value not in (None, [])}
    try:
        return SweepConfig.model_validate(config.model_dump(exclude_defaults=True) | changes)
    except ValidationError as error:
        raise ConfigError(describe(error)) from error


def budget_name(budget: BudgetConfig) -> str:
    """A budget as part of a folder's name: "latency0.5", "latency20ms-macs0.5"; "least" without any limit.

    >>> budget_name(BudgetConfig(latency="20 ms", macs=0.5))
    'latency20ms-macs0.5'
    """
    return "-".join(re.sub(r"[^\w.+]", "", f"{what}{limit}") for what, limit in limits_of(budget).items()) or "least"


def limits_of(budget: BudgetConfig) -> dict[str, float | str]:
    """What is limited and to how much: a share of the original's, or an amount. Further devices by their names."""
    limits: dict[str, float | str] = budget.model_dump(exclude_none=True, exclude={"also"})
    return limits | {each.name or each.table.parent.name: each.latency for each in budget.also}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of sections and settings, those of `over` winning one by one; a budget wins as a whole."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "budget"
        merged[key] = {**merged[key], **value} if both else value
    return merged
