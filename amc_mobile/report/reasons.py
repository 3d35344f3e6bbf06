"""Why each layer is as wide as it is, in words: the rows that page, Markdown and terminal share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from amc_mobile.report import wording as say
from amc_mobile.search.why import Change, Reason, Reasons

HEADING: Final = ("Group", "Channels", "Kept", "Loses alone", "Saves alone", "One step wider", "One step narrower")
CAPTION: Final = (
    "Loses: how far the answers diverge from the original's (nats) if this group alone is that narrow. Saves: what the "
    "otherwise unpruned network is spared then. A step is the next width worth choosing, in the pruned network"
)


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """One group as text, in the columns of HEADING."""

    group: str
    channels: str
    kept: str
    loses: str
    saves: str
    wider: str
    narrower: str

    def cells(self) -> tuple[str, ...]:
        """The row's cells, left to right."""
        return (self.group, self.channels, self.kept, self.loses, self.saves, self.wider, self.narrower)


def reason_rows(reasons: Reasons | None) -> tuple[ReasonRow, ...]:
    """One row per prunable group, in the order of execution."""
    return () if reasons is None else tuple(_row(reason) for reason in reasons.groups)


def _row(reason: Reason) -> ReasonRow:
    alone = reason.alone
    return ReasonRow(
        group=reason.group,
        channels=f"{reason.channels:,}",
        kept=f"{reason.kept:,} ({say.percent(reason.kept / reason.channels, 0)})",
        loses="not measured" if alone.loss is None else say.nats(alone.loss),
        saves=_saving(alone, 1),
        wider=_step(reason.wider),
        narrower=_step(reason.narrower),
    )


def _step(change: Change | None) -> str:
    """The width, and what it does to the loss and to the cost: "40: −0.0031 nats, +0.12 ms"."""
    if change is None:
        return "–"
    loss = "" if change.loss is None else f"{say.plus(change.loss)}{say.nats(change.loss)}, "
    return f"{change.kept:,}: {loss}{_saving(change, -1)}"


def _saving(change: Change, sign: int) -> str:
    """Time by the table if there is one, else MACs. `sign` -1 spells savings as changes of cost: "−0.10 ms"."""
    if change.latency_us is not None:
        value, text = sign * change.latency_us, say.ms(abs(change.latency_us))
    else:
        value, text = sign * change.macs, say.in_metric(abs(change.macs), "macs")
    mark = say.MINUS if value < 0 else "+" if sign < 0 and value > 0 else ""
    return f"{mark}{text}"
