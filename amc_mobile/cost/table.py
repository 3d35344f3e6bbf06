"""A latency table: what every layer costs on one device at every width, and how wrong that is.

The search asks it thousands of times, so it must be quick; and its prices never fall when a group keeps more channels,
because the budget's guarantee rests on that. It holds the widths worth choosing: any other width costs what the next
wider one in the table does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from amc_mobile.cost.pricer import Pricer
from amc_mobile.errors import TableError, UnstableError
from amc_mobile.measurements import DEVICE_KEY, DeviceInfo
from amc_mobile.types import LayerKind, NetworkGraph, Policy

_OPTIONS = ("precision", "threads", "batch")  # parts of the key that are options of the command line


@dataclass(frozen=True, slots=True)
class CarrierPoint:
    """One network on the clock, and what a table fitted without it predicts."""

    measured_us: float
    predicted_us: float


@dataclass(frozen=True, slots=True)
class Validation:
    """How wrong the table is on networks that it was not fitted to. Errors are predicted / measured - 1."""

    carriers: int  # networks measured, the full and the smallest one included
    mape: float  # mean of |error|, leaving out one random carrier after the other
    max_error: float
    bias: float  # mean of the signed error
    within_5: float  # share of the carriers with |error| <= 5 %
    within_10: float
    noise_floor: float  # mean |difference| of the clock from itself: what a perfect table would show
    macs_affine_mape: float  # the same error for the best straight line through the MACs: what a table must beat
    points: tuple[CarrierPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class TableRow:
    """Prices of one layer (`node` is empty), or of what the runtime runs behind it (`node` says what: "Add").

    `latency_us[i][o]` is the price at `in_widths[i]` input and `out_widths[o]` output channels. Depthwise layers and
    nodes have one width: `in_widths` is empty and there is one line of prices.
    """

    layer: str
    node: str
    kind: LayerKind
    in_widths: tuple[int, ...]
    out_widths: tuple[int, ...]
    latency_us: tuple[tuple[float, ...], ...]

    def at(self, in_channels: int, out_channels: int) -> float:
        """The price in µs; of the next wider entry where a width has none. Raises: TableError beyond the widest."""
        column = bisect_left(self.out_widths, out_channels)
        line = bisect_left(self.in_widths, in_channels) if self.in_widths else 0
        if column == len(self.out_widths) or line == len(self.latency_us):
            raise TableError(
                f"layer {self.layer} has {in_channels} -> {out_channels} channels, the table ends before that: "
                "it belongs to another network; measure this one with `amc profile`"
            )
        return self.latency_us[line][column]

    def is_monotone(self) -> bool:
        """Whether no price falls when a width grows."""
        across = all(a <= b for line in self.latency_us for a, b in pairwise(line))
        down = all(a <= b for upper, lower in pairwise(self.latency_us) for a, b in zip(upper, lower, strict=True))
        return across and down


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """Prices of one network's layers on one device.

    `rest_us` is what no width changes. `widths` tells, by group name, the widths that have a price of their own: no
    wider one is cheaper. Prune to these: what lies between them costs in the table what the next one does, and may cost
    more on the device. `evidence` holds, as plain JSON values, all that the prices were made from:
    protocol, conditions, coefficients, every raw measurement, seed, tool version, date.
    """

    model: str
    model_sha256: str
    device: DeviceInfo
    rows: tuple[TableRow, ...]
    rest_us: float
    validation: Validation
    widths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    _pricers: dict[int, Pricer] = field(default_factory=dict, init=False, repr=False, compare=False)

    def latency_us(self, network: NetworkGraph, kept: Sequence[int]) -> float:
        """The whole network's time when group g keeps `kept[g]` channels; never falls when one of them grows.

        Raises: TableError if the table lacks a layer of the network.
        """
        pricer = self._pricers.get(id(network))
        if pricer is None or pricer.network is not network:
            self._pricers.clear()
            pricer = self._pricers[id(network)] = Pricer(network, self._rows_of(network), self.rest_us)
        return pricer.price(kept)

    def layer_us(self, layer_name: str, in_channels: int, out_channels: int) -> float:
        """One layer's time, with the nodes that the runtime runs behind it: these and `rest_us` add up to the network.

        Raises: TableError for an unknown layer or more channels than it has.
        """
        rows = [row for row in self.rows if row.layer == layer_name]
        if not rows:
            raise TableError(f"the table of {self.model} has no layer {layer_name}; measure it with `amc profile`")
        return sum(row.at(in_channels, out_channels) for row in rows)

    def widen(self, network: NetworkGraph, policy: Policy) -> Policy:
        """The policy with every group raised to its next width in `widths`, wherever the table charges nothing for it.

        These channels are worth more than nothing: a width off the runtime's steps (12 of 16 channels, with blocks of
        16) can be slower than the next step.
        """
        kept = list(policy.kept)
        price = self.latency_us(network, kept)
        for group in network.prunable():
            before = kept[group.index]
            kept[group.index] = next((width for width in self.widths.get(group.name, ()) if width >= before), before)
            if self.latency_us(network, kept) > price:
                kept[group.index] = before
        return Policy(tuple(kept))

    def require(self, device: DeviceInfo, model_sha256: str) -> None:
        """Refuses the table where it does not belong.

        Raises: TableError if the table was measured on another device, runtime or network; says what differs.
        """
        for name in DEVICE_KEY:
            mine, theirs = getattr(self.device, name), getattr(device, name)
            if mine != theirs and name in _OPTIONS:
                raise TableError(f"this table was measured with {name} {mine}, not {theirs}; type --{name} {mine}")
            if mine != theirs:
                raise TableError(
                    f"this table was measured on another device: its {name} is {mine!r}, here it is {theirs!r}; "
                    f"measure this device with `amc profile --model {self.model} --device {device.name}`, or type "
                    "--elsewhere to search for that other device"
                )
        if not self.device.shares_cores(device):
            raise TableError(
                f"this table was measured on cores {self.device.cores}, not {device.cores}; type --cores "
                f"{self.device.cores}"
            )
        if self.device.emulated and not device.emulated:
            raise TableError(
                f"this table was measured on an emulator ({self.device.name}), whose clock says nothing; measure the "
                f"device itself with `amc profile --model {self.model} --device {device.name}`"
            )
        if model_sha256 != self.model_sha256:
            raise TableError(
                f"this table belongs to another network: {self.model} with structure {self.model_sha256[:12]}, not "
                f"{model_sha256[:12]}; measure this one with `amc profile --model {self.model} --device {device.name}`"
            )

    def refuse(self, max_error: float, *, force: bool = False) -> None:
        """Raises: UnstableError if the clock was too noisy for the limit, TableError if the table is too wrong."""
        own = self.validation
        if force or own.mape <= max_error:
            return
        message = f"the table's leave-one-out error is {own.mape:.1%}, the limit {max_error:.1%}"
        if own.noise_floor > max_error / 2:
            raise UnstableError(
                f"{message}, and the clock itself varied by {own.noise_floor:.1%}: close other programs, type "
                "`amc doctor` to see why, then measure again; or type --force to use the table anyway"
            )
        raise TableError(
            f"{message}: measure again with more networks (--carriers 32), or type --force to use the table anyway"
        )

    def save(self, json_path: Path) -> None:
        """Writes the JSON file and, beside it, the CSV file with the prices. Raises: RunFolderError."""
        from amc_mobile.cost.table_file import write

        write(self, json_path)

    @classmethod
    def load(cls, json_path: Path) -> LatencyTable:
        """Reads what `save` wrote, bit for bit. Raises: TableError if a file is missing, damaged or too new."""
        from amc_mobile.cost.table_file import read

        return read(json_path)

    def _rows_of(self, network: NetworkGraph) -> dict[str, list[TableRow]]:
        rows: dict[str, list[TableRow]] = defaultdict(list)
        for row in self.rows:
            rows[row.layer].append(row)
        missing = [layer.name for layer in network.layers if layer.name not in rows]
        if missing:
            raise TableError(
                f"the table of {self.model} has no layer {missing[0]}: it belongs to another network; "
                "measure this one with `amc profile`"
            )
        return rows
