"""The command line in a process that ends when its parent ends: `python -m amc_mobile.cli.leashed PARENT ARGUMENT...`.

A job of a sweep must not outlive the worker that started it, or it would hold its run folder and its phone. Stages are
written so that a kill costs the running one at most.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ORPHANED = 1


def entry() -> NoReturn:
    """Runs the arguments of this process after the first, which is the parent's number."""
    parent = int(sys.argv.pop(1))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in the meantime
        sys.exit(_ORPHANED)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))  # Ray's workers block the first
    from amc_mobile.cli import main

    main.entry()


if __name__ == "__main__":
    entry()
