"""The budget is a guarantee: whatever the agent answers, every width is legal and the limit holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.cost.price import cost_function, joint_cost, price
from amc_mobile.cost.table import LatencyTable, TableRow, Validation
from amc_mobile.cost.widths import width_grid
from amc_mobile.errors import BudgetError
from amc_mobile.measurements import DeviceInfo
from amc_mobile.search.budget import Walls, build_walls, in_words
from amc_mobile.sections.search import SearchConfig
from amc_mobile.types import Budget, Metric, Moment, NetworkGraph, Policy, Span

from .networks import chain, macs, residual

Cost = Callable[[Sequence[int]], float]
ratio = st.floats(0.0, 1.0)
answers = st.one_of(ratio, st.floats())  # an agent may answer anything, not a number included


@st.composite
def graphs(draw: st.DrawFn) -> NetworkGraph:
    widths = draw(st.lists(st.integers(1, 80), min_size=1, max_size=6))
    return chain(widths) if draw(st.booleans()) else residual(draw(st.integers(1, 64)), widths)


@st.composite
def costs(draw: st.DrawFn, graph: NetworkGraph) -> Cost:
    """Monotone, but neither smooth nor strict: MACs, a staircase of them, or any table of rising steps per group."""
    kind = draw(st.sampled_from(["macs", "staircase", "steps"]))
    if kind == "macs":
        return macs(graph)
    if kind == "staircase":
        block, exact = draw(st.sampled_from([4, 16, 32])), macs(graph)
        return lambda kept: exact([math.ceil(k / block) * block for k in kept])
    table = []
    for group in graph.groups:
        step = st.one_of(st.just(0.0), st.floats(0.0, 100.0))
        rises = draw(st.lists(step, min_size=group.channels, max_size=group.channels))
        table.append([sum(rises[: k + 1]) for k in range(group.channels)])
    return lambda kept: 1.0 + sum(table[g][k - 1] for g, k in enumerate(kept))


@st.composite
def problems(draw: st.DrawFn) -> Walls:
    graph = draw(graphs())
    cost = draw(costs(graph))
    keep, block = draw(st.floats(0.05, 1.0)), draw(st.sampled_from([1, 4, 8, 16]))
    smallest = [group.channels for group in graph.groups]
    for group in graph.prunable():
        smallest[group.index] = width_grid(group.channels, keep, block)[0]
    least, most = cost(smallest), cost(graph.full().kept)
    limit = least + draw(ratio) * (most - least)
    return Walls(graph, cost, limit, keep, block)


def one_step_wider(walls: Walls, widths: Sequence[int]) -> list[list[int]]:
    return [
        [*widths[:step], next(w for w in grid if w > widths[step]), *widths[step + 1 :]]
        for step, grid in enumerate(walls.grids)
        if widths[step] < grid[-1]
    ]


@given(problems(), st.data())
@settings(max_examples=200)
def test_no_episode_leaves_the_budget(walls: Walls, data: st.DataObject) -> None:
    decided: list[int] = []
    for grid in walls.grids:
        lower, upper = walls.bounds(decided)
        width = walls.choose(decided, data.draw(answers))
        assert lower <= width <= upper
        assert width in grid
        decided.append(width)
    assert walls.holds(decided)
    if walls.cost(decided) < walls.floor:  # only where the grid is too coarse to land
        assert any(walls.cost(wider) > walls.limit for wider in one_step_wider(walls, decided))


@given(problems(), st.data())
@settings(max_examples=200)
def test_a_projected_policy_spends_all_that_fits(walls: Walls, data: st.DataObject) -> None:
    widths = walls.project([data.draw(st.floats(0.01, full)) for full in walls.channels])
    assert walls.holds(widths)
    if walls.cost(widths) < walls.floor:
        assert all(walls.cost(wider) > walls.limit for wider in one_step_wider(walls, widths))
    assert walls.project(widths) == widths


@given(problems(), st.data())
@settings(max_examples=60)
def test_the_walls_let_a_projected_policy_pass(walls: Walls, data: st.DataObject) -> None:
    widths = walls.project([data.draw(st.floats(0.01, full)) for full in walls.channels])
    decided: list[int] = []
    for width, full in zip(widths, walls.channels, strict=True):
        if decided == list(widths[: len(decided)]):
            assert width <= walls.bounds(decided)[1]
        decided.append(walls.choose(decided, width / full))
    assert walls.holds(decided)


def test_episodes_land_on_the_budget_from_both_sides() -> None:
    graph = chain([32, 64, 64, 128, 128])
    cost = macs(graph)
    limit = 0.5 * cost(graph.full().kept)
    walls = Walls(graph, cost, limit, 0.2, 1)
    for answer in (0.0, 0.3, 0.5, 0.8, 1.0):
        decided: list[int] = []
        while len(decided) < len(walls.grids):
            decided.append(walls.choose(decided, answer))
        assert 0.98 * limit <= walls.cost(decided) <= limit


def test_a_budget_of_everything_keeps_everything() -> None:
    graph = chain([16, 24])
    cost = macs(graph)
    walls = Walls(graph, cost, cost(graph.full().kept), 0.2, 8)
    assert walls.project(walls.channels) == walls.channels
    assert walls.choose([], 1.0) == 16


def test_channels_that_cost_nothing_are_kept() -> None:
    graph = chain([64, 64, 64, 64])
    exact = macs(graph)

    def staircase(kept: Sequence[int]) -> float:
        return exact([math.ceil(k / 32) * 32 for k in kept])

    walls = Walls(graph, staircase, 0.6 * staircase(graph.full().kept), 0.1, 8)
    assert walls.choose([], 40 / 64) == 64  # 40 channels take as long as 64
    assert walls.choose([], 0.3) == 32  # 24 as long as 32


def test_an_answer_becomes_the_nearest_width() -> None:
    graph = chain([64, 64, 64])
    cost = macs(graph)
    walls = Walls(graph, cost, 0.5 * cost(graph.full().kept), 0.1, 8)
    assert walls.choose([], 0.70) == 48  # 44.8
    assert walls.choose([], 0.6875) == 48  # 44, half way: the wider one


def test_an_impossible_budget_names_the_reachable_minimum() -> None:
    graph = chain([64, 64])
    cost = macs(graph)
    full = cost(graph.full().kept)
    with pytest.raises(BudgetError) as caught:
        Walls(graph, cost, 0.01 * full, 0.25, 8, metric="macs")
    message = str(caught.value)
    smallest = cost([3, 16, 16, 10])
    assert in_words(smallest, "macs") in message
    share = math.ceil(1000 * smallest / full) / 1000
    assert f"set budget.macs to {share:.3f} or more" in message
    assert "search.min_keep_ratio below 0.25" in message
    assert "\n" not in message
    assert Walls(graph, cost, share * full, 0.25, 8).smallest == (16, 16)


def test_a_network_without_choices_says_so() -> None:
    graph = chain([])
    with pytest.raises(BudgetError, match="no channels that can be pruned"):
        Walls(graph, macs(graph), 1e9, 0.2, 8)


@pytest.mark.parametrize(
    ("value", "metric", "words"),
    [
        (840.2, "latency_us", "840 µs"),
        (13_512.0, "latency_us", "13.5 ms"),
        (300_774_272, "macs", "301 M MACs"),
        (3_400_000, "params", "3.4 M parameters"),
        (13_000_000, "bytes", "13 MB"),
        (12, "bytes", "12 B"),
    ],
)
def test_costs_are_told_in_their_unit(value: float, metric: str, words: str) -> None:
    assert in_words(value, metric) == words  # type: ignore[arg-type]


def test_bounds_tighten_as_the_budget_shrinks() -> None:
    graph = chain([64, 64, 64])
    cost = macs(graph)
    full = cost(graph.full().kept)
    uppers = [Walls(graph, cost, share * full, 0.1, 8).bounds([64])[1] for share in (0.2, 0.4, 0.6, 0.8, 1.0)]
    assert all(a <= b for a, b in pairwise(uppers))
    assert uppers[0] < uppers[-1]


def test_a_margin_is_left_free_and_named_when_it_is_missing() -> None:
    network = chain([64, 64, 64])
    cost = macs(network)
    full = cost(network.full().kept)
    walls = Walls(network, cost, 0.5 * full, 0.2, 8, metric="macs", margin=0.1)
    assert walls.limit == pytest.approx(0.45 * full)
    assert walls.cost(walls.project(walls.channels)) <= 0.45 * full
    with pytest.raises(BudgetError, match=r"with a margin of 10\.0%") as refused:
        Walls(network, cost, walls.smallest_cost, 0.2, 8, metric="macs", margin=0.1)
    share = float(str(refused.value).split("set budget.macs to ")[1].split(" ")[0])
    Walls(network, cost, share * full, 0.2, 8, metric="macs", margin=0.1)


def test_the_share_that_is_advised_is_of_what_shares_are_of() -> None:
    """The clock's time of the original, which need not be what the table says: else the advice would not help."""
    network = chain([64, 64, 64])
    cost = macs(network)
    full = cost(network.full().kept)
    smallest = Walls(network, cost, full, 0.2, 8).smallest_cost
    with pytest.raises(BudgetError, match=r"set budget\.latency to") as refused:
        Walls(network, cost, 0.9 * smallest, 0.2, 8, margin=0.1, whole=0.95 * full)
    share = float(str(refused.value).split("set budget.latency to ")[1].split(" ")[0])
    Walls(network, cost, share * 0.95 * full, 0.2, 8, margin=0.1)


# ---------------------------------------------------------------------------------------------------- several budgets

DEVICE = DeviceInfo("host", "A processor", "Linux", "onnxruntime 1.0", "CPUExecutionProvider", "fp32", 1, "all")
PERFECT = Validation(4, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.1)


def with_moments(graph: NetworkGraph) -> NetworkGraph:
    """While a layer runs, its input and its output are alive."""
    moments = [
        Moment(
            layer.name,
            100,
            tuple(Span(span.group, 4 * math.prod(layer.in_hw) * span.positions) for span in layer.in_spans)
            + tuple(Span(span.group, 4 * math.prod(layer.out_hw) * span.positions) for span in layer.out_spans),
        )
        for layer in graph.layers
    ]
    return replace(graph, moments=tuple(moments))


@st.composite
def staircases(draw: st.DrawFn, graph: NetworkGraph) -> LatencyTable:
    """A table with prices at a few widths of every layer; what lies between costs what the next one does."""
    rows = []
    for layer in graph.layers:
        depthwise = layer.kind == "depthwise"
        ins, outs = (
            tuple(sorted({*draw(st.lists(st.integers(1, full), max_size=4)), full}))
            for full in (layer.in_channels, layer.out_channels)
        )
        lines, before = [], [0.0] * len(outs)
        for _ in [0] if depthwise else ins:
            rises = draw(st.lists(st.sampled_from([0.0, 0.5, 7.0, 100.0]), min_size=len(outs), max_size=len(outs)))
            total, line = 0.0, []
            for rise, least in zip(rises, before, strict=True):
                total = max(total + rise, least)
                line.append(total)
            lines.append(tuple(line))
            before = line
        rows.append(TableRow(layer.name, "", layer.kind, () if depthwise else ins, outs, tuple(lines)))
    return LatencyTable(graph.name, "ab" * 32, DEVICE, tuple(rows), draw(st.floats(0.1, 50.0)), PERFECT)


@dataclass(frozen=True)
class Several:
    """Budgets that can be kept together, and what they are about."""

    graph: NetworkGraph
    tables: dict[str, LatencyTable]
    budgets: tuple[Budget, ...]
    config: SearchConfig


@st.composite
def several(draw: st.DrawFn) -> Several:
    graph = with_moments(draw(graphs()))
    tables = {"": draw(staircases(graph)), "pixel": draw(staircases(graph))}
    config = SearchConfig(
        min_keep_ratio=draw(st.floats(0.05, 1.0)),
        round_to=draw(st.sampled_from([1, 4, 8, 12, 16])),
        latency_margin=draw(st.sampled_from([0.0, 0.01, 0.1])),
    )
    smallest = list(graph.full().kept)
    for group in graph.prunable():
        smallest[group.index] = width_grid(group.channels, config.min_keep_ratio, config.round_to)[0]
    names = [("latency_us", ""), ("latency_us", "pixel"), ("macs", ""), ("params", ""), ("bytes", "")]
    chosen = draw(st.lists(st.sampled_from([*names, ("memory_bytes", "")]), min_size=1, max_size=4, unique=True))
    budgets = []
    for metric, device in chosen:
        cost = cost_function(graph, metric, tables, device)  # type: ignore[arg-type]
        room = 1.0 - config.latency_margin * 1.0001 if metric == "latency_us" else 1.0
        least, most = cost(smallest), cost(graph.full().kept)
        budgets.append(Budget(metric, (least + draw(ratio) * (most - least)) / room, device))  # type: ignore[arg-type]
    return Several(graph, tables, tuple(budgets), config)


def exceeded(problem: Several, policy: Policy) -> list[Budget]:
    """The budgets that a policy breaks, priced by `price`, not by the walls."""
    cost = price(problem.graph, policy, problem.tables)
    spent = [cost.elsewhere_us[b.device] if b.device else getattr(cost, b.metric) for b in problem.budgets]
    return [budget for budget, value in zip(problem.budgets, spent, strict=True) if value > budget.limit]


@given(several(), st.data())
@settings(max_examples=80)
def test_no_episode_leaves_any_of_several_budgets(problem: Several, data: st.DataObject) -> None:
    walls = build_walls(problem.graph, problem.budgets, problem.tables, problem.config)
    decided: list[int] = []
    for group in walls.groups:
        lower, upper = walls.bounds(decided)
        width = walls.choose(decided, data.draw(answers))
        assert lower <= width <= upper
        assert width in width_grid(group.channels, problem.config.min_keep_ratio, problem.config.round_to)
        decided.append(width)
    assert walls.holds(decided)
    assert not exceeded(problem, walls.policy(decided))
    if walls.cost(decided) < walls.floor:  # only where the grid is too coarse to land
        assert any(walls.cost(wider) > walls.limit for wider in one_step_wider(walls, decided))


@given(several(), st.data())
@settings(max_examples=60)
def test_projections_keep_all_of_several_budgets(problem: Several, data: st.DataObject) -> None:
    walls = build_walls(problem.graph, problem.budgets, problem.tables, problem.config)
    widths = walls.project([data.draw(st.floats(0.01, full)) for full in walls.channels])
    assert not exceeded(problem, walls.policy(widths))
    assert not exceeded(problem, walls.policy(walls.carried_out(widths)))


@given(several(), st.data())
@settings(max_examples=60)
def test_no_cost_falls_when_a_group_grows(problem: Several, data: st.DataObject) -> None:
    walls = build_walls(problem.graph, problem.budgets, problem.tables, problem.config)
    widths = [data.draw(st.sampled_from(grid)) for grid in walls.grids]
    for wider in one_step_wider(walls, widths):
        assert walls.cost(wider) >= walls.cost(widths)


@given(several(), st.data())
@settings(max_examples=30)
def test_without_a_landing_every_width_down_to_the_smallest_is_free(problem: Several, data: st.DataObject) -> None:
    walls = build_walls(problem.graph, problem.budgets, problem.tables, problem.config, landing=0.0)
    assert walls.floor == 0.0
    decided: list[int] = []
    for grid in walls.grids:
        assert walls.bounds(decided)[0] == grid[0]
        decided.append(walls.choose(decided, data.draw(ratio)))
    assert not exceeded(problem, walls.policy(decided))


@pytest.mark.parametrize(("spent", "limit"), [(3.0, 3.0 - 2**-51), (1e9 + 1e-7, 1e9), (10, 9.999999999999998)])
def test_one_digit_too_much_is_too_much(spent: float, limit: float) -> None:
    assert spent > limit
    assert joint_cost([lambda _: spent, lambda _: 0.0], [limit, 1.0])([]) > 1.0
    assert joint_cost([lambda _: limit, lambda _: 0.0], [limit, 1.0])([]) == 1.0


def test_the_budget_that_cannot_be_kept_is_named() -> None:
    graph = with_moments(chain([64, 64]))
    full = price(graph, graph.full())
    budgets = [Budget("macs", 0.9 * full.macs), Budget("memory_bytes", 0.01 * full.memory_bytes)]
    with pytest.raises(BudgetError, match=r"set budget\.memory to 0\.\d+ or more"):
        build_walls(graph, budgets, {}, SearchConfig())
    with pytest.raises(BudgetError, match="a latency budget needs a latency table of pixel"):
        build_walls(graph, [Budget("latency_us", 1.0, "pixel")], {}, SearchConfig())


def test_one_budget_is_priced_in_its_own_unit_and_several_in_shares() -> None:
    graph = chain([64, 64])
    full = price(graph, graph.full())
    one = build_walls(graph, [Budget("macs", 0.5 * full.macs)], {}, SearchConfig())
    assert (one.full_cost, one.limit) == (full.macs, 0.5 * full.macs)
    both = build_walls(
        graph, [Budget("macs", 0.5 * full.macs), Budget("params", 0.8 * full.params)], {}, SearchConfig()
    )
    assert (both.full_cost, both.limit) == (2.0, 1.0)


def test_a_layer_of_a_million_weights_has_a_few_levels() -> None:
    graph = chain([1_000_000, 24])
    metric: Metric = "params"
    half = Budget(metric, 0.5 * price(graph, graph.full()).params)
    walls = build_walls(graph, [half], {}, SearchConfig(granularity="weight", min_keep_ratio=0.1))
    assert [len(grid) for grid in walls.grids] == [40, 22]
    assert walls.smallest == (100_000, 3)
    assert walls.cost(walls.carried_out(walls.channels)) <= half.limit
