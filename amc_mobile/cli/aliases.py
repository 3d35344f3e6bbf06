"""devices.toml: names of one's own for phones, with how to reach each and how to measure it.

    [pixel]
    address = "usb:8A1X0V2K"       # or "192.168.1.5:5555", or "server:8A1X0V2K": through a running adb server
    threads = 4
    cores = [4, 5, 6, 7]
    provider = "cpu"               # xnnpack, nnapi, qnn where the library given by `aar` has them

It is looked for in the working folder, then in the user's own settings; the first file that knows a name counts.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from amc_mobile.errors import ConfigError
from amc_mobile.toml_files import describe

FILE = "devices.toml"
_MEASURED = ("threads", "cores", "provider", "optimisation")  # what a config takes over, unless it says otherwise
_TRANSPORTS = ("usb", "tcp", "server")
_TAKEN = re.compile(r"host|cuda(:\d+)?|cuda-ort|all|[\s.]*")  # devices of this machine, all phones, no name at all


class Alias(BaseModel):
    """One phone of devices.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(description="usb:SERIAL, HOST:PORT, server:SERIAL")
    threads: int | None = Field(None, ge=1, le=64)
    cores: list[Annotated[int, Field(ge=0)]] | None = None
    provider: str | None = None
    optimisation: str | None = None
    options: dict[str, str] = Field({}, description="of the provider")
    wrapper: list[str] = Field([], description="a program before the runner, such as an emulator: for tests only")
    aar: Path | None = Field(None, description="onnxruntime-android AAR: Android's own library instead of glibc's")
    libraries: Path | None = Field(None, description="folder with glibc for the phone's processor")

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, written: str) -> str:
        transport, place = split_address(written)
        if transport not in _TRANSPORTS or not place:
            raise ValueError("must be usb:SERIAL, HOST:PORT or server:SERIAL")
        return written


def split_address(written: str) -> tuple[str, str]:
    """Transport and place: ("usb", "8A1X"), ("tcp", "192.168.1.5:5555"), ("server", "8A1X")."""
    head, _, rest = written.partition(":")
    return (head, rest) if head in _TRANSPORTS else ("tcp", written)


def aliases() -> dict[str, Alias]:
    """All phones that have a name. Raises: ConfigError for a file that says something else."""
    found: dict[str, Alias] = {}
    for path in _files():
        if path.is_file():
            found = _read(path) | found
    return found


def defaults(name: str) -> dict[str, Any]:
    """Settings of section `device` that the alias of that name brings; none if there is no such alias."""
    alias = aliases().get(name)
    if alias is None:
        return {}
    return {key: value for key in _MEASURED if (value := getattr(alias, key)) is not None}


def _files() -> tuple[Path, ...]:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(FILE), Path(home) / "amc-mobile" / FILE


def _read(path: Path) -> dict[str, Alias]:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}; see the example at the top of `amc devices --help`") from error
    found = {}
    for name, values in tree.items():
        if _TAKEN.fullmatch(name):
            raise ConfigError(f"{path}, [{name}]: that name is taken or can be no name; give the phone another")
        try:
            alias = Alias.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{path}, [{name}]: {describe(error)}") from error
        found[name] = alias.model_copy(
            update={key: _beside(path, place) for key in ("aar", "libraries") if (place := getattr(alias, key))}
        )
    return found


def _beside(file: Path, place: Path) -> Path:
    """A path as it is meant in that file: ~ is the user's folder, else it begins where the file lies."""
    return file.parent / place.expanduser()
