"""From the command line to a RunConfig: options over a config file over the defaults; and what differs between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from amc_mobile.cli import aliases
from amc_mobile.cli.inputs import NOTHING, identity
from amc_mobile.config import RunConfig, TransferConfig, Tree
from amc_mobile.errors import ConfigError
from amc_mobile.sections.search import default_reward
from amc_mobile.toml_files import describe

_HARMLESS = (  # change no file, or only which trial is cut
    "out",
    "profile.force",
    "profile.elsewhere",
    "profile.max_error",
    "prune.point",
)


def override(config: Tree, options: Mapping[str, object]) -> Tree:
    """The config with settings replaced, named by their path ("search.episodes"). None leaves a setting as it is.

    A phone of devices.toml brings its threads, cores and provider. Any budget replaces the whole section; where none
    was set, the protocol says what there is. Another network does not keep the weights of the one in the config.
    Raises: ConfigError.
    """
    tree = config.model_dump(exclude=None if "budget" in config.model_fields_set else {"budget"})
    given = {path: value for path, value in options.items() if value is not None}
    given = _of_the_alias(config, given) | given
    if any(path.startswith("budget.") for path in given):
        tree["budget"] = {}
    if "model" in tree and given.get("model.name", tree["model"]["name"]) != tree["model"]["name"]:
        tree["model"]["weights"] = None
    if isinstance(config, RunConfig) and config.search.reward == default_reward(config.model.purpose):
        del tree["search"]["reward"]  # it goes with the task
    for path, value in given.items():
        section, _, key = path.rpartition(".")
        (tree[section] if section else tree)[key] = value
    try:
        return type(config).model_validate(tree)
    except ValidationError as error:
        raise ConfigError(describe(error)) from error


def _of_the_alias(config: RunConfig | TransferConfig, given: Mapping[str, object]) -> dict[str, object]:
    """What devices.toml says of the phone, for settings that neither the config nor the options say."""
    name = str(given.get("device.name", config.device.name))
    said = config.device.model_fields_set if name == config.device.name else frozenset()
    return {f"device.{key}": value for key, value in aliases.defaults(name).items() if key not in said}


def with_data_folder(config: RunConfig, folder: Path | None) -> RunConfig:
    """The config with its relative weights and image files looked for in a folder."""
    if folder is None:
        return config
    return override(
        config,
        {
            "model.name": str(folder / config.model.name) if config.model.onnx else None,
            "model.weights": None if config.model.weights is None else folder / config.model.weights,
            "data.name": _inside(folder, config.data.name),
            "data.test": None if config.data.test is None else _inside(folder, config.data.test),
        },
    )


def differences(
    old: Tree, new: Tree, harmless: Sequence[str] = _HARMLESS, known: Mapping[str, str] = NOTHING
) -> list[str]:
    """Every setting that differs, as "search.episodes 120 -> 200". Files count by content, not by where they lie.

    `harmless` are settings and sections whose changes spoil nothing that was done; `known` is what files held that are
    absent.
    """
    before, after = flat(old), flat(new)
    changed = [
        path
        for path in after
        if not {path, path.partition(".")[0]} & set(harmless)
        and identity(path, before[path], known) != identity(path, after[path], known)
    ]
    return [f"{path} {before[path]} -> {after[path]}" for path in changed]


def flat(config: RunConfig | TransferConfig) -> dict[str, Any]:
    """Every setting by its path: {"search.episodes": 120, ...}."""
    tree = config.model_dump(mode="json")
    sections = {key: value for key, value in tree.items() if isinstance(value, dict)}
    settings = {key: value for key, value in tree.items() if key not in sections}
    return settings | {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}


def _inside(folder: Path, spec: str) -> str:
    kind, colon, place = spec.rpartition(":")
    if not colon and Path(spec).suffix not in (".npz", ".zip"):
        return spec  # "digits"
    return f"{kind}{colon}{folder / place}"
