"""The pictures of the report about the network and the latency table: data in, inline SVG out."""

from __future__ import annotations

from collections.abc import Sequence

from amc_mobile.cost.table import Validation
from amc_mobile.report import drawing as ink
from amc_mobile.report import wording as say
from amc_mobile.report.drawing import LegendEntry, Picture, canvas, to_svg
from amc_mobile.report.examples import examples_picture
from amc_mobile.report.facts import Facts
from amc_mobile.report.search_figures import rewards, trials
from amc_mobile.report.structure import GroupRow, LayerRow
from amc_mobile.report.training_figures import curve

_MOST_BARS = 60  # more would be a column of a yard; the tables list all
_BAR_PX = 18
_IN_THE_TABLE = " The others are in the table below."


def draw(facts: Facts) -> tuple[Picture, ...]:
    """Every picture beside those of the devices for which there is data, in the order of the page."""
    structure, search = facts.structure, facts.search
    pictures: list[Picture] = []
    if facts.examples is not None and facts.examples.pictures:
        pictures.append(examples_picture(facts.examples))
    if any(group.kept is not None for group in structure.groups):
        pictures.append(widths(structure.groups, structure.unit))
    if any(layer.after_us is not None for layer in structure.layers) and not _timed_layers(facts):
        pictures.append(layer_latencies(structure.layers))
    if search is not None:
        if search.episodes:
            pictures.append(rewards(search))
        pictures.append(trials(search, facts.budget, facts.accuracy))
    if facts.table is not None and facts.table.points:
        pictures.append(table_quality(facts.table))
    pictures += [
        curve(name, title, history)
        for name, title, history in (
            ("training", "Training from scratch", facts.training),
            ("finetuning", "Fine-tuning", facts.finetuning),
        )
        if history is not None and len(history.epochs) > 1  # one point is no curve
    ]
    return tuple(pictures)


def _timed_layers(facts: Facts) -> bool:
    """Whether the run's own device timed the layers: its picture shows them then."""
    return any(device.own and device.layers for device in facts.devices)


# ------------------------------------------------------------------------------------------------------------- bars


def widths(groups: Sequence[GroupRow], unit: str = "channels") -> Picture:
    """Channels (or weights) of every prunable group: original and kept."""
    shown = groups[:_MOST_BARS]
    title = f"{unit.capitalize()} of every group"
    kept, total = sum(group.kept or 0 for group in groups), sum(group.channels for group in groups)
    text = (
        f"Paired bars for {len(shown)} of {len(groups)} prunable groups, in order of execution. "
        f"{kept:,} of {total:,} {unit} stay ({say.percent(kept / total)})."
        f"{_IN_THE_TABLE if len(shown) < len(groups) else ''}"
    )
    before, after = [float(group.channels) for group in shown], [float(group.kept or 0) for group in shown]
    svg = _paired_bars("widths", title, text, [group.name for group in shown], before, after, unit)
    return Picture("widths", title, text, svg, _BEFORE_AFTER)


def layer_latencies(layers: Sequence[LayerRow]) -> Picture:
    """Time of every layer inside the network, by the latency table: original and pruned."""
    slowest = sorted(layers, key=lambda layer: -(layer.before_us or 0))[:_MOST_BARS]
    shown = [layer for layer in layers if layer in slowest]
    title = "Latency of every layer"
    top = slowest[0]
    text = (
        f"Paired bars for {len(shown)} of {len(layers)} layers, by the latency table. The slowest is {top.name}: "
        f"{say.ms(top.before_us)} before, {say.ms(top.after_us)} after pruning."
        f"{_IN_THE_TABLE if len(shown) < len(layers) else ''}"
    )
    before, after = [(layer.before_us or 0) / 1e3 for layer in shown], [(layer.after_us or 0) / 1e3 for layer in shown]
    svg = _paired_bars("layers", title, text, [layer.name for layer in shown], before, after, "ms")
    return Picture("layers", title, text, svg, _BEFORE_AFTER)


_BEFORE_AFTER = (LegendEntry("square", "before", "original"), LegendEntry("square", "after", "pruned"))


def _paired_bars(
    name: str,
    title: str,
    text: str,
    labels: Sequence[str],
    before: Sequence[float],
    after: Sequence[float],
    unit: str,
) -> str:
    with canvas(56 + _BAR_PX * len(labels)) as (figure, axes):
        places = range(len(labels))
        axes.barh([place - 0.2 for place in places], before, height=0.38, color=ink.BEFORE)
        axes.barh([place + 0.2 for place in places], after, height=0.38, color=ink.AFTER)
        axes.set_yticks(list(places), [say.clipped(label, 22) for label in labels], fontsize=10)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(unit)
        axes.locator_params(axis="x", nbins=5)
        return to_svg(figure, name, title, text)


# -------------------------------------------------------------------------------------------------------- the table


def table_quality(table: Validation) -> Picture:
    """How far the prediction lies from the clock for every carrier, and how far MACs alone would lie on average."""
    title = "The latency table against the clock"
    text = (
        f"{len(table.points)} carriers, each predicted without itself. Mean absolute error {say.percent(table.mape)}, "
        f"largest {say.percent(table.max_error)}; fitting MACs instead errs by {say.percent(table.macs_affine_mape)}."
    )
    measured = [point.measured_us / 1e3 for point in table.points]
    errors = [100 * (point.predicted_us / point.measured_us - 1) for point in table.points]
    macs_error = 100 * table.macs_affine_mape
    most = 1.15 * max(6.0, macs_error, *map(abs, errors))
    with canvas(250) as (figure, axes):
        axes.axhspan(-5, 5, color=ink.BAND, lw=0)
        axes.axhline(0, color=ink.MUTED, lw=1)
        for level in (-macs_error, macs_error):
            axes.axhline(level, color=ink.AMBER, lw=1.6, dashes=(5, 2.5))
        axes.plot(measured, errors, "o", color=ink.AFTER, markersize=6, mew=0)
        axes.set_xlim(0, 1.06 * max(measured))
        axes.set_ylim(-most, most)
        axes.set_xlabel("measured (ms)")
        axes.set_ylabel("predicted − measured (%)")
        axes.locator_params(nbins=6)
        svg = to_svg(figure, "table", title, text)
    legend = (
        LegendEntry("dot", "after", "carrier"),
        LegendEntry("square", "band", f"within ±5{say.NBSP}%"),
        LegendEntry("dashes", "amber", f"mean error of MACs alone, ±{say.percent(table.macs_affine_mape)}"),
    )
    return Picture("table", title, text, svg, legend)
