"""What can go wrong, as one small family. Each message says what happened, to what, and what to type next."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """What a foreign error says, in one line; its name if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class AmcError(Exception):
    """A mistake the user can mend: unknown name, missing file, impossible budget. The command line prints one line."""

    exit_code = 1


class ConfigError(AmcError):
    """The config file or an option does not say something usable."""


class DataError(AmcError):
    """Images, labels or weights are missing, empty, or do not fit the network."""


class GraphError(AmcError):
    """The ONNX file cannot be read as a network this tool understands."""


class TableError(AmcError):
    """A latency table is corrupted, foreign (other device, runtime or model), or too inaccurate to be used."""


class BudgetError(AmcError):
    """The budget lies outside what pruning can reach. The message names the reachable minimum."""


class RunFolderError(AmcError):
    """The run folder cannot be read or written, or belongs to another run."""


class SweepError(AmcError):
    """Some runs of a sweep failed; what does not follow from them is done."""


class DeviceError(AmcError):
    """The device is absent, refuses, or failed while measuring."""

    exit_code = 3


class UnstableError(AmcError):
    """The measurement is too noisy to be believed. The message says why and what to do."""

    exit_code = 4
