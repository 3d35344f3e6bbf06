"""What can be seen to be wrong before anything costs time: names, files, the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amc_mobile.cli import fine_grained
from amc_mobile.cli.budgets import further_tables
from amc_mobile.cli.open_device import check_device
from amc_mobile.errors import ConfigError, DataError

if TYPE_CHECKING:
    from amc_mobile.config import RunConfig


def check(config: RunConfig) -> None:
    """Raises: ConfigError, DataError, DeviceError or TableError for what cannot work, in a fraction of a second."""
    if not config.profile.elsewhere:
        check_device(config.device)
    check_model_file(config)
    fine_grained.check(config)
    check_training(config)
    if config.profile.table is not None:
        from amc_mobile.cost.table import LatencyTable

        LatencyTable.load(config.profile.table)
    further_tables(config)
    for spec in (config.data.name, config.data.test):
        if spec is not None and Path(spec).suffix in (".npz", ".zip") and not Path(spec).is_file():
            raise DataError(f"there are no images at {spec}; say where with --data, or in the config under data.name")


def check_model_file(config: RunConfig) -> None:
    """Raises: DataError for missing files; ConfigError for what an ONNX file without its source cannot do."""
    file = config.model.onnx
    if file is None:
        check_weights_file(config.model.weights)
        return
    if not file.is_file():
        raise DataError(f"there is no {file}; give the path of an ONNX file")
    if config.model.purpose == "detection":
        raise ConfigError(f"{file} answers raw numbers that only a detector's module decodes; give its name as --model")
    if config.model.weights is not None:
        raise ConfigError(f"{file} has its weights inside; leave out --weights (model.weights)")
    check_trainable(config)


def check_trainable(config: RunConfig) -> None:
    """Raises: ConfigError if a network without its PyTorch source is to be trained or fine-tuned."""
    for setting, epochs in (("finetune.epochs", config.finetune.epochs), ("train.epochs", config.train.epochs)):
        if config.model.onnx and epochs:
            raise ConfigError(
                f"{config.model.onnx} is an ONNX file and cannot be trained without its PyTorch source; set "
                f"{setting} to 0, or give --model package.module:function"
            )


def check_training(config: RunConfig) -> None:
    """Raises: ConfigError for settings that the training of a detector does not know."""
    if config.model.purpose != "detection":
        return
    for section, settings in (("train", config.train), ("finetune", config.finetune)):
        if settings.epochs and (unknown := settings.of_classifiers()):
            raise ConfigError(
                f"{', '.join(f'{section}.{name}' for name in unknown)}: for classifiers only; leave that out for a "
                "detector"
            )


def check_weights_file(weights: Path | None) -> None:
    """Raises: DataError for weights that are named and missing."""
    if weights is not None and not weights.is_file():
        raise DataError(f"there are no weights at {weights}; give the path of a state_dict file")
