"""The pictures of one device: its rounds, its layers, and how it felt meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from amc_mobile.measurements import Conditions, LayerTime
from amc_mobile.report import drawing as ink
from amc_mobile.report import wording as say
from amc_mobile.report.devices import DeviceFacts, NetworkSpeed
from amc_mobile.report.drawing import LegendEntry, Picture, canvas, panels, to_svg
from amc_mobile.report.outcome import RoundTimes

_MOST_LAYERS = 100  # more would be a column of a yard; the table lists all
_LAYER_PX = 13.5
_PANEL_PX = 78
_REST = "everything else"
_STYLES: Final = {  # colour role, marker, its shape in the legend, name
    "original": ("before", "s", "square", "original"),
    "pruned": ("after", "o", "dot", "pruned"),
    "original_int8": ("amber", "D", "diamond", "original, int8"),
    "int8": ("purple", "^", "up", "pruned, int8"),
}


def draw_device(device: DeviceFacts, number: int) -> tuple[Picture, ...]:
    """Every picture for which the device gave data. `number` tells the names of several devices' pictures apart."""
    mark = "" if device.own else str(number)
    pictures = [rounds(device, f"rounds{mark}")]
    if (felt := state(device, f"state{mark}")) is not None:
        pictures.append(felt)
    if any(time.before_us is not None and time.after_us is not None for time in device.layers):
        pictures.append(layers(device, f"layers{mark}"))
    return tuple(pictures)


# ------------------------------------------------------------------------------------------------------------ rounds


def rounds(device: DeviceFacts, name: str) -> Picture:
    """Every interleaved round: medians of the networks, with the 10th to 90th percentile of the runs."""
    title = "Latency, round by round"
    latencies = ", ".join(f"{_STYLES[one.label][3]} {say.ms(one.latency_us)}" for one in device.networks)
    text = f"{len(device.pruned.rounds)} interleaved rounds. Latencies: {latencies}."
    with canvas(230) as (figure, axes):
        for network in device.networks:
            _round_marks(axes, network.rounds, *_STYLES[network.label][:2])
        axes.set_ylim(bottom=0)
        _count_rounds(axes, device)
        axes.set_ylabel("latency (ms)")
        svg = to_svg(figure, name, title, text)
    legend = _legend(device.networks)
    return Picture(
        name, title, f"{text} Marks are medians, lines reach from the 10th to the 90th percentile.", svg, legend
    )


def _round_marks(axes: Axes, times: Sequence[RoundTimes], role: str, shape: str) -> None:
    numbers = list(range(1, len(times) + 1))
    medians = [time.median_us / 1e3 for time in times]
    spans = [
        [(time.median_us - time.p10_us) / 1e3 for time in times],
        [(time.p90_us - time.median_us) / 1e3 for time in times],
    ]
    colour = ink.STAND_INS[role]
    axes.errorbar(numbers, medians, yerr=spans, fmt=shape, color=colour, ms=6, mew=0, elinewidth=1.6, capsize=3)


def _count_rounds(axes: Axes, device: DeviceFacts) -> None:
    axes.set_xlim(0.4, max(len(network.rounds) for network in device.networks) + 0.6)
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _legend(networks: Sequence[NetworkSpeed]) -> tuple[LegendEntry, ...]:
    styles = [_STYLES[network.label] for network in networks]
    return tuple(LegendEntry(shape, role, name) for role, _marker, shape, name in styles)


# ------------------------------------------------------------------------------------------------------------ layers


def layers(device: DeviceFacts, name: str) -> Picture:
    """Time of every layer inside the network, by the runtime's profiler: the pruned on top of the original."""
    known = [time for time in device.layers if time.before_us is not None and time.after_us is not None]
    slowest = sorted(known, key=lambda time: -(time.before_us or 0.0))[:_MOST_LAYERS]
    shown = [time for time in known if time in slowest]
    title = "Latency of every layer, before and after"
    text = _layers_text(device, shown, known)
    with canvas(44 + _LAYER_PX * len(shown)) as (figure, axes):
        places = range(len(shown))
        axes.barh(places, [(time.before_us or 0.0) / 1e3 for time in shown], height=0.82, color=ink.BEFORE, alpha=0.55)
        axes.barh(places, [(time.after_us or 0.0) / 1e3 for time in shown], height=0.46, color=ink.AFTER)
        axes.set_yticks(list(places), [say.clipped(time.layer, 26) or _REST for time in shown], fontsize=9)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("ms")
        axes.locator_params(axis="x", nbins=5)
        svg = to_svg(figure, name, title, text)
    legend = (LegendEntry("square", "before", "original"), LegendEntry("square", "after", "pruned"))
    return Picture(name, title, text, svg, legend)


def _layers_text(device: DeviceFacts, shown: Sequence[LayerTime], known: Sequence[LayerTime]) -> str:
    before, after = sum(time.before_us or 0.0 for time in known), sum(time.after_us or 0.0 for time in known)
    most = max(known, key=_saved_us)
    clock = f"{say.ms(device.original.latency_us)} and {say.ms(device.pruned.latency_us)}"
    text = (
        f"By the runtime’s own profiler, in sessions of their own: together {say.ms(before)} before, {say.ms(after)} "
        f"after pruning; the clock said {clock}."
    )
    if _saved_us(most) > 0:
        text += f" The most is saved in {most.layer or _REST}: {say.ms(_saved_us(most))}."
    return text if len(shown) == len(known) else f"{text} The {len(shown)} slowest are drawn; the table has all."


def _saved_us(time: LayerTime) -> float:
    return (time.before_us or 0.0) - (time.after_us or 0.0)


# ------------------------------------------------------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class _Gauge:
    """Something that the device told of itself after each round; `floor` is the least height of its panel."""

    name: str
    unit: str
    read: Callable[[Conditions], float | None]
    from_zero: bool
    floor: float


_GAUGES: Final = (
    _Gauge("clock", "GHz", lambda state: max(state.clock_khz) / 1e6 if state.clock_khz else None, True, 0.1),
    _Gauge("heat", "°C", lambda state: state.temperature_celsius, False, 4.0),
    _Gauge("other load", "cores", lambda state: state.load, True, 1.0),
)


def state(device: DeviceFacts, name: str) -> Picture | None:
    """Clock, heat and load of other programs at the end of every round; None where the device told nothing."""
    told = [gauge for gauge in _GAUGES if _values(device, gauge)]
    if not told or len(device.pruned.states) < 2:
        return None
    names = [gauge.name for gauge in told]
    title = " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))).capitalize() + " during the run"
    text = _state_text(device, told)
    with panels(42 + _PANEL_PX * len(told), len(told)) as (figure, all_axes):
        for gauge, axes in zip(told, all_axes, strict=True):
            _draw_gauge(axes, device, gauge)
        _count_rounds(all_axes[-1], device)
        figure.align_ylabels()
        svg = to_svg(figure, name, title, text)
    return Picture(name, title, text, svg, _legend([one for one in device.networks if one.states]))


def _values(device: DeviceFacts, gauge: _Gauge) -> list[float]:
    read = [gauge.read(state) for network in device.networks for state in network.states]
    return [value for value in read if value is not None]


def _draw_gauge(axes: Axes, device: DeviceFacts, gauge: _Gauge) -> None:
    for network in device.networks:
        role, marker, _shape, _name = _STYLES[network.label]
        points = [(number, gauge.read(state)) for number, state in enumerate(network.states, start=1)]
        known = [(number, value) for number, value in points if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), marker=marker, color=ink.STAND_INS[role], ms=4, mew=0, lw=1.2)
    values = _values(device, gauge)
    low, high = 0.0 if gauge.from_zero else min(values), max(values)
    room = max(gauge.floor - (high - low), 0.12 * (high - low))
    axes.set_ylim(low if gauge.from_zero else low - room / 2, high + (room if gauge.from_zero else room / 2))
    axes.set_ylabel(gauge.unit)
    axes.yaxis.set_major_locator(MaxNLocator(3))


def _state_text(device: DeviceFacts, told: Sequence[_Gauge]) -> str:
    """What the panels show, and what a panel would not be worth."""
    parts = []
    for gauge in told:
        values = _values(device, gauge)
        low, high = f"{min(values):.{_digits(gauge)}f}", f"{max(values):.{_digits(gauge)}f}"
        what = {"clock": "fastest core in use", "heat": "warmest sensor", "other load": "other programs"}[gauge.name]
        parts.append(f"{what} {low if low == high else f'{low}–{high}'}{say.NBSP}{gauge.unit}")
    charge = [s.battery_percent for one in device.networks for s in one.states if s.battery_percent is not None]
    if charge:
        span = f"{max(charge):.0f}{say.NBSP}%" + (
            f" to {min(charge):.0f}{say.NBSP}%" if max(charge) > min(charge) else ""
        )
        parts.append(f"battery {span}")
    text = "At the end of every round: " + ", ".join(parts) + "."
    if device.throttled:
        text += (
            f" {device.throttled} timing{'s were' if device.throttled > 1 else ' was'} dropped and made again, because "
            "the device held its clock down."
        )
    return text


def _digits(gauge: _Gauge) -> int:
    return 0 if gauge.name == "heat" else 2
