"""The same work on several devices at once: a slow or dying one neither holds nor spoils the others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from amc_mobile.cli.console import PlainProgress, note
from amc_mobile.cli.open_device import is_here
from amc_mobile.errors import AmcError, DeviceError

if TYPE_CHECKING:
    from amc_mobile.device.protocol import Progress

T = TypeVar("T")
_LOOK_S = 0.5  # between which Ctrl-C is heard


def each(
    names: Sequence[str], work: Callable[[str, Progress], T], *, quiet: bool = False
) -> tuple[dict[str, T], dict[str, AmcError]]:
    """What `work` gives for each name, and the errors of those that failed; each end is told, unless `quiet`.

    An error that is nobody's mistake but ours is raised when the others are done. The threads are daemons: Ctrl-C ends
    all of them, and their phones stop with them.
    """
    ends: queue.Queue[tuple[str, T | Exception]] = queue.Queue()

    def run(name: str) -> None:
        try:
            ends.put((name, work(name, PlainProgress(name, note, time.monotonic))))
        except Exception as error:  # noqa: BLE001 - raised again below
            ends.put((name, error))

    for name in names:
        threading.Thread(target=run, args=(name,), name=name, daemon=True).start()
    done: dict[str, T] = {}
    failed: dict[str, AmcError] = {}
    ours: list[Exception] = []
    while len(done) + len(failed) + len(ours) < len(names):
        try:
            name, end = ends.get(timeout=_LOOK_S)
        except queue.Empty:
            continue
        if isinstance(end, AmcError):
            failed[name] = end
        elif isinstance(end, Exception):
            ours.append(end)
        else:
            done[name] = end
        if not quiet:
            note(f"{name}: {' '.join(str(end).split()) if isinstance(end, Exception) else 'done'}")
    if ours:
        raise ours[0]
    return done, failed


def on_all(names: Sequence[str], work: Callable[[str, Progress], T]) -> dict[str, T]:
    """`work` for all devices of this machine, one after the other, then for all phones at once; by name what it gave.

    Raises: DeviceError naming those that failed, when the others are done.
    """
    here, phones = [name for name in names if is_here(name)], [name for name in names if not is_here(name)]
    done: dict[str, T] = {}
    failed: dict[str, AmcError] = {}
    for together in (*([name] for name in here), phones):
        some, errors = each(together, work)
        done, failed = done | some, failed | errors
    if failed:
        which = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise DeviceError(f"{len(failed)} of {len(names)} devices failed, the others are done ({which})")
    return done
