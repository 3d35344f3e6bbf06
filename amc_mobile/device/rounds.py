"""What every device in this process does alike: jobs in an order of their own each round, and what they gave so far."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from amc_mobile.device.protocol import Progress
from amc_mobile.types import Conditions, Measurement, NodeTime, TimingJob, TimingProtocol

FEWEST = 15  # runs that a slow network has in any case
_LONG = 2.0  # times the least time: runs that take longer are fewer


def most_time_s(protocol: TimingProtocol) -> float:
    """How long the runs of one job may take before they are fewer than the protocol says; without a least time: any."""
    return _LONG * protocol.min_time_s or math.inf


class Record:
    """What one job has given so far, round by round."""

    def __init__(self) -> None:
        self.values_us: list[tuple[float, ...]] = []
        self.warmups_us: list[tuple[float, ...]] = []
        self.nodes: dict[str, NodeTime] = {}

    def add_nodes(self, nodes: Sequence[NodeTime]) -> None:
        """Appends the times of one more round."""
        for node in nodes:
            before = self.nodes[node.name].round_us if node.name in self.nodes else ()
            self.nodes[node.name] = NodeTime(node.name, node.op_type, node.outputs, (*before, *node.round_us))

    def measurement(self, label: str, conditions: Conditions) -> Measurement:
        """All rounds together."""
        nodes = tuple(self.nodes.values())
        return Measurement(label, tuple(self.values_us), tuple(self.warmups_us), nodes, conditions)


def in_rounds(jobs: Sequence[TimingJob], protocol: TimingProtocol, progress: Progress | None) -> Iterator[int]:
    """The places of the jobs, all of them in every round, shuffled by the protocol's seed. Tells how far it is."""
    rng = np.random.default_rng(protocol.seed)
    total = protocol.rounds * len(jobs)
    for round_number in range(protocol.rounds):
        for place, index in enumerate(rng.permutation(len(jobs))):
            if progress is not None:
                progress(round_number * len(jobs) + place, total, jobs[index].label)
            yield int(index)
    if progress is not None:
        progress(total, total, "timed")
