"""`amc`: the front door. Commands live in the verbs_* modules; here errors become one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Annotated, NoReturn

import typer

from amc_mobile.cli import (
    verbs_devices,
    verbs_look,
    verbs_measure,
    verbs_run,
    verbs_search,
    verbs_stage,
    verbs_sweep,
    verbs_transfer,
)
from amc_mobile.errors import AmcError

INTERRUPTED = 130
INTERNAL = 1
# On a machine that others use too, waiting threads that spin make training and linear algebra five to ten times slower.
# One thread of OpenBLAS also gives the same bits on any number of cores. Read when torch and numpy are imported.
_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}

app = typer.Typer(
    name="amc",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich would take as long again to load
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Interrupted(BaseException):
    """Ctrl-C or SIGTERM. No KeyboardInterrupt, so that nothing between here and the stage swallows it."""


@app.callback()
def _amc(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. May stand anywhere on the line.")
    ] = False,
) -> None:
    """Make a trained network run in a given time on a given device, and prove it.

    `amc demo` shows the whole job in minutes. Data go to stdout, progress to stderr. Every run can be interrupted at
    any time: the same command resumes it. Exit codes: 0 ok, 1 mistake, 2 usage, 3 device, 4 unstable measurement,
    130 interrupted.
    """


for _verbs in (
    verbs_run,
    verbs_sweep,
    verbs_search,
    verbs_stage,
    verbs_transfer,
    verbs_measure,
    verbs_devices,
    verbs_look,
):
    _verbs.register(app)


def entry() -> NoReturn:
    """Runs the command line of this process and exits with its code."""
    for name, value in _THREADS.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(_run_together(sys.argv[1:]) if "TORCHELASTIC_RUN_ID" in os.environ else run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code. An error is one line on stderr, or with --debug a traceback."""
    rest = [argument for argument in arguments if argument != "--debug"]
    return _guarded(lambda: app(rest, prog_name="amc"), debug="--debug" in arguments)


def _run_together(arguments: list[str]) -> int:
    """One of torchrun's processes: the first runs the command line, the others train when it lets them."""
    from amc_mobile.train import parallel

    if parallel.helps():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # there is nothing to put in order
        return _guarded(parallel.serve, debug="--debug" in arguments)
    code = run(arguments)
    if code == 0:
        parallel.dismiss()
    return code


def _guarded(work: Callable[[], object], *, debug: bool) -> int:
    """Does the work and returns the exit code; see `run`."""
    if not debug:
        _quieten()
    try:
        work()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else INTERNAL
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (_Interrupted, KeyboardInterrupt):
        print("amc: interrupted; type the same command again to resume", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        code, line = _explain(error)
        print(f"amc: {line}", file=sys.stderr)
        return code
    return 0


def _explain(error: Exception) -> tuple[int, str]:
    """The exit code and the one line for an error."""
    if isinstance(error, AmcError):
        return error.exit_code, _one_line(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return INTERNAL, f"{where}{error.strerror}; mend it and type the same command again to resume"
    if isinstance(error, MemoryError):
        return INTERNAL, "out of memory; use fewer images (data.search_images, data.calibration_images)"
    text = f"internal error: {type(error).__name__}: {_one_line(error)}"
    return INTERNAL, f"{text}; run again with --debug to see where, and please report it"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _quieten() -> None:
    """Keeps libraries from talking on stderr: what matters to the user, this program says itself."""
    import logging

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # the second Ctrl-C ends a library that does not listen
    raise _Interrupted


if __name__ == "__main__":
    entry()
