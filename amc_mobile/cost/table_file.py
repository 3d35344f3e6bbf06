"""Latency tables as files: prices in a CSV that git can compare, everything else in a JSON beside it.

The JSON names the CSV's checksum and carries its own, so that damage is found; floats are written so that they come
back bit for bit. `SCHEMA` counts up when the meaning of a field changes.

Schema 1: the first one. Schema 2: laws of several forms, what the profiler adds to a node, steadiness by chunk, batch.
Since chunks have turns, a sample's times are a list of them; before there was one, and no list.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd

from amc_mobile.cost.table import CarrierPoint, LatencyTable, TableRow, Validation
from amc_mobile.errors import TableError
from amc_mobile.measurements import DeviceInfo
from amc_mobile.runs import plain, write_bytes, write_text

SCHEMA = 2
_COLUMNS = {
    "layer": "str",
    "node": "str",
    "kind": "str",
    "in_channels": "int64",
    "out_channels": "int64",
    "latency_us": "float64",
}


def write(table: LatencyTable, json_path: Path) -> None:
    """Writes both files, the CSV first: an interrupted write leaves a pair whose checksums disagree."""
    lines = [line for row in table.rows for line in _lines(row)]
    csv = pd.DataFrame(lines, columns=list(_COLUMNS)).to_csv(index=False, lineterminator="\n").encode()
    body = plain(
        {
            "schema": SCHEMA,
            "model": table.model,
            "model_sha256": table.model_sha256,
            "device": table.device,
            "rest_us": table.rest_us,
            "validation": table.validation,
            "widths": table.widths,
            "csv": json_path.with_suffix(".csv").name,
            "csv_sha256": hashlib.sha256(csv).hexdigest(),
            "evidence": table.evidence,
        }
    )
    write_bytes(json_path.with_suffix(".csv"), csv)
    write_text(json_path, json.dumps({**body, "sha256": _digest(body)}, indent=1, allow_nan=False) + "\n")


def read(json_path: Path) -> LatencyTable:
    """The table in the two files. Raises: TableError if one is missing, damaged, or of a newer version."""
    body = _read_body(json_path)
    try:
        points = tuple(CarrierPoint(**point) for point in body["validation"].pop("points"))
        return LatencyTable(
            model=body["model"],
            model_sha256=body["model_sha256"],
            device=DeviceInfo(**body["device"]),
            rows=_read_rows(json_path.with_suffix(".csv"), body["csv_sha256"]),
            rest_us=body["rest_us"],
            validation=Validation(**body["validation"], points=points),
            widths={name: tuple(widths) for name, widths in body["widths"].items()},
            evidence=body["evidence"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(json_path, f"field {error} is missing or wrong") from error


def _read_body(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TableError(f"cannot read latency table {path}: {error.strerror}; make one with `amc profile`") from error
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(body, dict) or "schema" not in body:
        raise TableError(f"{path} is no latency table; make one with `amc profile`")
    if body["schema"] != SCHEMA:
        raise TableError(
            f"{path} has schema {body['schema']}, this version reads {SCHEMA}; make it again: `amc profile`"
        )
    digest = body.pop("sha256", None)
    if digest != _digest(body):
        raise _damaged(path, "its checksum is wrong")
    return body


def _read_rows(path: Path, sha256: str) -> tuple[TableRow, ...]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TableError(
            f"cannot read {path}, the prices of the table: {error.strerror}; keep both files together, "
            "or make them again with `amc profile`"
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _damaged(path, "its checksum is wrong")
    frame = pd.read_csv(io.BytesIO(data), dtype=_COLUMNS, keep_default_na=False, float_precision="round_trip")
    return tuple(
        _row(str(layer), str(node), part) for (layer, node), part in frame.groupby(["layer", "node"], sort=False)
    )


def _lines(row: TableRow) -> list[tuple[str, str, str, int, int, float]]:
    names = (row.layer, row.node, row.kind)
    if not row.in_widths:
        return [(*names, width, width, price) for width, price in zip(row.out_widths, row.latency_us[0], strict=True)]
    return [
        (*names, in_width, out_width, price)
        for in_width, prices in zip(row.in_widths, row.latency_us, strict=True)
        for out_width, price in zip(row.out_widths, prices, strict=True)
    ]


def _row(layer: str, node: str, part: pd.DataFrame) -> TableRow:
    """Raises: TableError if a pair of widths is missing, doubled or out of order, or a price falls with the width."""
    kind: Any = part["kind"].iloc[0]
    ins, outs, prices = (part[name].tolist() for name in ("in_channels", "out_channels", "latency_us"))
    if kind in ("depthwise", "other"):
        row = TableRow(layer, node, kind, (), tuple(outs), (tuple(prices),))
        complete = ins == outs == sorted(set(outs))
    else:
        in_widths, out_widths = tuple(sorted(set(ins))), tuple(sorted(set(outs)))
        complete = list(zip(ins, outs, strict=True)) == [(i, o) for i in in_widths for o in out_widths]
        columns = len(out_widths)
        matrix = tuple(tuple(prices[start : start + columns]) for start in range(0, len(prices), columns))
        row = TableRow(layer, node, kind, in_widths, out_widths, matrix)
    if not complete or not row.is_monotone():
        reason = "a price falls when a width grows" if complete else "widths are missing or out of order"
        raise TableError(f"latency table, layer {layer} {node}: {reason}; make the table again with `amc profile`")
    return row


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _damaged(path: Path, reason: str) -> TableError:
    return TableError(f"latency table {path} is damaged ({reason}); make it again with `amc profile`")
