"""What can be seen to be wrong before anything costs time: names, files, the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amc_mobile.cli.open_device import check_device_name
from amc_mobile.errors import ConfigError, DataError

if TYPE_CHECKING:
    from amc_mobile.config import RunConfig


def check(config: RunConfig) -> None:
    """Raises: ConfigError, DataError, DeviceError or TableError for what cannot work, in a fraction of a second."""
    check_device_name(config.device.name)
    check_model_file(config.model.name, config.model.weights)
    if config.profile.table is not None:
        from amc_mobile.cost.table import LatencyTable

        LatencyTable.load(config.profile.table)
    for spec in (config.data.name, config.data.test):
        if spec is not None and Path(spec).suffix in (".npz", ".zip") and not Path(spec).is_file():
            raise DataError(f"there are no images at {spec}; say where with --data, or in the config under data.name")


def check_model_file(name: str, weights: Path | None) -> None:
    """Raises: ConfigError for an ONNX file where a PyTorch network is needed; DataError for missing weights."""
    if Path(name).suffix == ".onnx":
        raise ConfigError(
            f"{name} is an ONNX file: `amc graph` and `amc profile` take it, a search needs the PyTorch network; "
            "give a network's name or package.module:function"
        )
    check_weights_file(weights)


def check_weights_file(weights: Path | None) -> None:
    """Raises: DataError for weights that are named and missing."""
    if weights is not None and not weights.is_file():
        raise DataError(f"there are no weights at {weights}; give the path of a state_dict file")
