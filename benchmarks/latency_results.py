"""The tables of RESULTS.md that are about time: how wrong latency tables are, and whether budgets hold on the clock.

Called by collect.py. Each table comes from one file in raw/, and says which command made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine_tables import section


def latency_results(raw: Mapping[str, Any]) -> str:
    """Markdown for those of the raw files about time that are there, by their names."""
    makers = {
        "table_error": table_error,
        "short_rounds": short_rounds,
        "budget_kept": budget_kept,
        "pixel1_logs": pixel1_logs,
    }
    return "\n".join(maker(raw[name]) for name, maker in makers.items() if name in raw)


def table_error(raw: Mapping[str, Any]) -> str:
    """Held-out networks against the clock, one row for each network and number of threads."""
    head = (
        "network", "threads", "carriers x rounds", "mean error", "largest", "bias", "within 5 %", "clock's noise",
        "MACs alone",
        "leave one out", "prices", "measured in, s", "stem", "depthwise", "classifier",
    )  # fmt: skip
    rows = [
        (
            row["network"],
            str(row["threads"]),
            f"{row['carriers']} x {row['rounds']}",
            f"{row['mape']:.2%}",
            f"{row['max']:.1%}",
            f"{row['bias']:+.1%}",
            f"{row['within5']:.0%}",
            f"{row['noise_floor']:.2%}",
            f"{row['macs_affine_mape']:.2%}",
            f"{row['leave_one_out_mape']:.2%}",
            f"{row['price_mape']:.2%}",
            f"{row['profile_seconds']:.0f}",
            *(_share(row["shares"].get(part)) for part in ("stem", "depthwise", "classifier")),
        )
        for row in raw["rows"]
    ]
    pooled = raw["pooled"]
    text = section("How wrong latency tables are", "python benchmarks/table_error.py", [head, *rows])
    return text + (
        f"\nAll {pooled['networks']} held-out networks: mean error {pooled['mape']:.2%}, "
        f"{pooled['within5']:.1%} within 5 %. Held-out networks are drawn by other samplers than the carriers'; "
        '"MACs alone" is the best line through the carriers\' MACs; "prices" are what a search pays, which never fall '
        "with a width; the last three columns are the layers' shares of the full network, by the table and (in "
        "brackets) by the runtime's profiler in place, in the table's own campaign. On two threads this virtual "
        "machine has two moods, 35 % apart, that last for minutes: a table is of one of them."
        + (
            ""
            if "turns" in raw["rows"][0]
            else " Networks were timed once a round, for a second: before they took turns."
        )
        + "\n"
    )


def short_rounds(raw: Mapping[str, Any]) -> str:
    """The same time of measuring in few long rounds and in many short ones."""
    head = ("protocol", "rounds", "seconds", "speed-up (95 %)", "width of the interval")
    rows = [
        (
            row["protocol"],
            str(row["rounds"]),
            f"{row['seconds']:.0f}",
            f"{row['speedup']:.2f} ({row['interval'][0]:.2f}–{row['interval'][1]:.2f})",
            f"{row['width']:.1%}",
        )
        for row in raw["rows"]
    ]
    return section("Rounds of a comparison on a restless clock", raw["command"], [head, *rows]) + (
        f"\n{raw['date']}, commit {raw['commit']}, {raw['machine']}. The same two networks, in turn.\n"
    )


def budget_kept(raw: Mapping[str, Any]) -> str:
    """Searches under a latency budget: what was allowed, what the clock said."""
    head = ("budget", "allowed, ms", "measured, ms", "off", "table repaired")
    rows = [
        (
            f"{row['share']:.0%} of the latency",
            f"{row['budget_us'] / 1000:.3f}",
            f"{row['measured_us'] / 1000:.3f}",
            f"{row['off']:+.1%}",
            f"{sum(check['repaired'] for check in row['checks'])} times",
        )
        for row in raw["rows"]
    ]
    text = section(
        "Budgets on the clock, MobileNet-V2", "python benchmarks/budget_kept.py --data FOLDER", [head, *rows]
    )
    return (
        text + "\nOne search for each budget, on one table; the network that it chose was timed once it was pruned.\n"
    )


def pixel1_logs(raw: Mapping[str, Any]) -> str:
    """A real phone's logs: fitted to two networks, asked about two others."""
    head = ("network", "measured, ms", "predicted, ms", "error", "scaled by MACs")
    rows = [
        (
            row["network"] + (" (fitted)" if row["network"] in raw["fitted_to"] else ""),
            f"{row['measured_us'] / 1000:.2f}",
            f"{row['predicted_us'] / 1000:.2f}",
            f"{row['error']:+.1%}",
            f"{row['macs_scaling_error']:+.1%}",
        )
        for row in raw["networks"]
    ]
    own = raw["validation"]
    return section("A Pixel 1 (public logs)", "python benchmarks/pixel1_logs.py --data FOLDER", [head, *rows]) + (
        "\nTFLite's profiler on a Pixel 1: a table fitted to two plain networks is asked about the two that AMC's "
        "authors found. The table that ships is made of all four; each left out, it is off by "
        f"{own['mape']:.1%} on average, {own['max_error']:.1%} at most. No layer was logged below half of its width: "
        "prices there follow the fitted laws alone.\n"
    )


def _share(part: Mapping[str, float] | None) -> str:
    return "–" if part is None else f"{part['table']:.1%} ({part['in_place']:.1%})"
