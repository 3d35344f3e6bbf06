"""TOML files: read, written, and what is wrong in one of them told in one line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from amc_mobile.errors import ConfigError


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file. Raises: ConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}; give the path of a TOML file") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise ConfigError(f"{path} is not TOML: {error}") from error


def write_toml(tree: Mapping[str, object]) -> str:
    """A tree of plain values as TOML: its own settings first, then its sections."""
    lines = [f"{key} = {_toml(value)}" for key, value in tree.items() if not isinstance(value, dict)]
    for section, values in tree.items():
        if isinstance(values, dict):
            lines += ["", f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def describe(error: ValidationError) -> str:
    """One line that names every wrong setting by its path, with what was given."""
    parts = [
        f"{'.'.join(map(str, item['loc'])) or 'config'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors()
    ]
    return "; ".join(parts)


def _toml(value: object) -> str:
    """A plain value in TOML, which is nearly JSON; but TOML knows neither surrogates nor a bare DEL."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
