"""Several processes that train one network: `torchrun --nproc-per-node N -m amc_mobile.cli.main ...`.

Only the first process works through the command line. The others wait (`serve`) until it hands them work (`together`),
which all then do at the same time, each with its share of every batch. What they hand each other stays between the
processes of one torchrun: it is neither read from files nor from anybody else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Protocol, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_PATIENCE = timedelta(days=30)  # the others wait while the first one searches or measures


class Work(Protocol[T_co]):
    """Something that all processes do together; `mine` is what only the first one has: progress, files to write."""

    def __call__(self, team: Team, **mine: Any) -> T_co:
        """Does this process's share."""
        ...


@dataclass(frozen=True, slots=True)
class Team:
    """This process among those that work together. `group` is None where it is alone."""

    rank: int
    size: int
    device: torch.device
    group: distributed.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes and reports."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """Its part of every batch."""
        return slice(self.rank, None, self.size)

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, the same in each."""
        if self.group is not None:
            tensor = tensor.clone()
            distributed.all_reduce(tensor, group=self.group)
        return tensor

    def told(self, value: T) -> T:
        """The first process's value, in all of them."""
        if self.group is None:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module whose gradients are the mean over all processes; one process: the module itself.

        Buffers are not sent around: synchronised batch norms are equal everywhere.
        """
        if self.group is None:
            return module
        places = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=places, broadcast_buffers=False, static_graph=True)


def together(work: Work[T], **mine: Any) -> T:
    """Does the work with all processes of a torchrun, or alone; what the first one's share gives.

    `work` is sent to the others: what it carries must be picklable. They get no `mine`.
    """
    team = _team()
    if team.size > 1:
        team.told(work)
    return work(team, **mine)


def helps() -> bool:
    """Whether this process is one of torchrun's that wait for work: any but the first."""
    return _size() > 1 and int(os.environ["RANK"]) > 0


def serve() -> None:
    """Does what the first process hands out until it is done."""
    team = _team()
    try:
        while (work := team.told(None)) is not None:
            _typed(work)(team)
    finally:
        distributed.destroy_process_group()  # its threads must not be alive when Python goes: that aborts


def dismiss() -> None:
    """Lets the others go: the first process is done. Nothing where it is alone."""
    if _size() > 1:
        _team().told(None)
        distributed.destroy_process_group()


def _typed(work: Any) -> Callable[[Team], object]:
    found: Callable[[Team], object] = work
    return found


def _size() -> int:
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


@cache
def _team() -> Team:
    """This process's place, from torchrun's environment: gloo between CPUs, NCCL between GPUs."""
    size, cuda = _size(), torch.cuda.is_available()
    if size == 1:
        return Team(0, 1, torch.device("cuda" if cuda else "cpu"))
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
    group = distributed.new_group(timeout=_PATIENCE)  # beside that of the gradients
    if not isinstance(group, distributed.ProcessGroup):
        raise AssertionError("every process is in a group of all processes")
    return Team(distributed.get_rank(), size, device, group)
