"""The picture of a transfer: how good each network became, against what it costs."""

from __future__ import annotations

from collections.abc import Mapping

from amc_mobile.report import drawing as ink
from amc_mobile.report import wording as say
from amc_mobile.report.drawing import LegendEntry, Picture, canvas, to_svg
from amc_mobile.types import Contender, TransferResult

_MARKS = {
    "pruned": ("o", "dot", "after"),
    "original": ("s", "square", "before"),
    "uniform": ("^", "up", "amber"),
    "scratch": ("D", "diamond", "purple"),
}  # by network: matplotlib's marker, its outline in the legend, its colour's role


def accuracy_against_cost(found: TransferResult, labels: Mapping[str, str]) -> Picture:
    """Top-1 with its 95 % interval against latency; against MACs where no device timed the networks."""
    timed = all(each.latency_us is not None for each in found.contenders)
    title = f"Accuracy on the other images against {'latency' if timed else 'MACs'}"
    text = " ".join(
        f"{labels[each.name]}: {say.percent(each.accuracy)} at {_cost(each, timed)}." for each in found.contenders
    )
    costs = [(each.latency_us or 0.0) / 1e3 if timed else each.macs / 1e6 for each in found.contenders]
    with canvas(260) as (figure, axes):
        for each, cost in zip(found.contenders, costs, strict=True):
            marker, _, role = _MARKS[each.name]
            low, high = (100 * end for end in each.top1_ci)
            centre = 100 * each.accuracy
            axes.errorbar(
                [cost],
                [centre],
                yerr=[[max(0.0, centre - low)], [max(0.0, high - centre)]],
                fmt=marker,
                color=ink.STAND_INS[role],
                markersize=8,
                mew=0,
                elinewidth=1.4,
            )
        axes.set_xlim(0, 1.12 * max(costs))
        axes.set_xlabel("latency (ms)" if timed else "MACs (M)")
        axes.set_ylabel("top-1 (%)")
        axes.locator_params(nbins=6)
        svg = to_svg(figure, "transfer", title, text)
    legend = tuple(
        LegendEntry(_MARKS[each.name][1], _MARKS[each.name][2], labels[each.name]) for each in found.contenders
    )
    return Picture("transfer", title, text, svg, legend)


def _cost(each: Contender, timed: bool) -> str:
    return say.ms(each.latency_us) if timed else f"{say.count(each.macs)}{say.NBSP}MACs"
