"""The union-find against the obvious way, and parts that stay equal whoever leaves."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.graph.equal_parts import balance, unite_columns
from amc_mobile.graph.identities import Identities

PAIRS = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40)


def obvious(pairs: list[tuple[int, int]]) -> list[int]:
    """The oldest of everyone's set, by relabelling until nothing changes."""
    label = list(range(30))
    for one, other in pairs:
        low, high = sorted((label[one], label[other]))
        label = [low if item == high else item for item in label]
    return label


@given(PAIRS, st.integers(1, 7))
def test_unions_are_those_of_the_obvious_way(pairs: list[tuple[int, int]], size: int) -> None:
    identities = Identities()
    ids = identities.fresh(30)
    for start in range(0, len(pairs), size):
        some = np.array(pairs[start : start + size], np.int64)
        identities.unite(some[:, 0], some[:, 1])
    assert identities.roots(ids).tolist() == obvious(pairs)


@given(PAIRS, st.sets(st.integers(0, 29), max_size=4))
def test_whoever_is_united_with_a_pinned_one_is_pinned(pairs: list[tuple[int, int]], pinned: set[int]) -> None:
    identities = Identities()
    ids = identities.fresh(30)
    for number in sorted(pinned):
        identities.pin(np.array([number]), f"because of {number}")
    if pairs:
        identities.unite(*np.array(pairs, np.int64).T)
    label = obvious(pairs)
    for identity, root in zip(ids.tolist(), identities.roots(ids).tolist(), strict=True):
        together = {number for number in pinned if label[number] == label[identity]}
        assert (identities.reason(root) in {f"because of {number}" for number in together}) == bool(together)


def test_there_is_room_for_any_number() -> None:
    identities = Identities()
    one, other = identities.fresh(3), identities.fresh(5000)
    identities.unite(one, other[-3:])
    assert identities.roots(other[-3:]).tolist() == [0, 1, 2]


@given(PAIRS, st.sampled_from([2, 3]), st.data())
def test_equally_many_of_each_part_stay(pairs: list[tuple[int, int]], number: int, data: st.DataObject) -> None:
    identities = Identities()
    ids = identities.fresh(30)
    if pairs:
        identities.unite(*np.array(pairs, np.int64).T)
    parts = np.split(ids, number)
    balance(identities, parts)
    roots = identities.roots(ids)
    stay = data.draw(st.sets(st.sampled_from(sorted(set(roots.tolist())))))
    counts = [sum(root in stay for root in identities.roots(part).tolist()) for part in parts]
    assert len(set(counts)) == 1


def test_parts_of_strangers_leave_in_pairs() -> None:
    identities = Identities()
    balance(identities, [identities.fresh(4), identities.fresh(4)])
    assert identities.roots(np.arange(8)).tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_columns_leave_as_one() -> None:
    identities = Identities()
    assert unite_columns(identities, identities.fresh(6).reshape(3, 2)).tolist() == [0, 1]
    assert identities.roots(np.arange(6)).tolist() == [0, 1, 0, 1, 0, 1]
