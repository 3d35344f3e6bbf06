"""Rows of a raw file that were not asked for this time stay in it, beside those of today."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from amc_mobile.runs import read_json

RowT = TypeVar("RowT")


def beside(
    rows: Iterable[RowT], raw: Path, name: str, kind: Callable[..., RowT], question: Callable[[RowT], Any]
) -> list[RowT]:
    """`rows`, and those of the list `name` in `raw` that answer another question, in the order of their questions."""
    earlier = [kind(**row) for row in read_json(raw)[name]] if raw.is_file() else []
    return sorted({question(row): row for row in [*earlier, *rows]}.values(), key=question)
