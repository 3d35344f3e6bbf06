"""One measurement at a time on one phone: programs of this user that measure on the same phone take turns."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator
from typing import IO

from android_bench.adb import Address
from android_bench.runner.cache import default_cache

_LOOK_S = 0.2


@contextlib.contextmanager
def turn(address: Address, told: Callable[[str], None], sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Holds the phone; waits while another holds it. The hold ends with its process, however that ends.

    Where the cache folder cannot be written nobody waits for anybody.
    """
    place = default_cache() / "turns" / hashlib.sha256(str(address).encode()).hexdigest()[:16]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        stream = place.open("a")
    except OSError:
        yield
        return
    with stream:
        if not _taken(stream):
            told("another measurement is running on it; this one waits for its end")
            while not _taken(stream):
                sleep(_LOOK_S)
        yield


def _taken(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
