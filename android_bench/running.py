"""One start of the runner on the phone: a manifest goes there, events come back, and how it ended is told apart."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from amc_mobile.errors import DeviceError
from android_bench.adb import Adb, ConnectionLost, ShellResult, TooSlow, printable, quote
from android_bench.bundle import Bundle
from android_bench.runner.events import Begun, Done, Event, EventReader, Failed, Hello, Timed
from android_bench.runner.manifest import Manifest

_MANIFEST = "manifest.txt"
_ASK_S = 30.0
_MOST_PROFILE_BYTES = 256 * 2**20
_REMEDIES = {  # by the code of a failure that is not one step's
    "option": "choose other --cores or --provider; all but cpu need an onnxruntime-android file, `aar` in devices.toml",
    "library": "remove what we sent with `amc devices --clean`, and type the command again",
    "memory": "close other programs on the device",
}
_SIGNALS = {4: "illegal instruction", 6: "abort", 7: "bus error", 8: "arithmetic error", 9: "killed", 11: "segfault"}


@dataclass
class Outcome:
    """What one start of the runner gave, and how it ended.

    "done"; "lost": the connection; "crashed": the step that had begun took the runtime down, or did not end.
    """

    hello: Hello | None = None
    timed: list[Timed] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    begun: int | None = None  # the step that was running when it ended
    end: Literal["done", "lost", "crashed"] = "done"
    reason: str = ""

    def take(self, event: Event) -> None:
        """Adds one event."""
        if isinstance(event, Hello):
            self.hello = event
        elif isinstance(event, Begun):
            self.begun = event.step
        elif isinstance(event, Timed):
            self.timed.append(event)
            self.begun = None
        elif isinstance(event, Failed):
            self.failed.append(event)
            self.begun = None


class RunnerOnPhone:
    """The runner in its folder on the phone. Its working folder is emptied at every start."""

    def __init__(self, adb: Adb, bundle: Bundle, folder: str, work: str, wrapper: tuple[str, ...] = ()) -> None:
        self._adb = adb
        self._bundle = bundle
        self.folder = folder  # of the bundle, seen from the working folder
        self._work = work
        self._wrapper = wrapper

    def start(self, manifest: Manifest, limit_s: float, step_s: float, told: Callable[[Event], None]) -> Outcome:
        """Runs the manifest's steps, each in `step_s` at most, all in `limit_s`; events are `told` as they arrive.

        Raises: DeviceError where the phone answers what is no protocol, does not answer in time, or cannot run it.
        """
        outcome, reader = Outcome(), EventReader()
        finished = False

        def take(data: bytes) -> None:
            nonlocal finished
            for event in reader.feed(data):
                _check(event, len(manifest.steps))
                finished = finished or isinstance(event, Done)
                outcome.take(event)
                told(event)

        work = quote(self._work)
        try:
            self._adb.shell(f"rm -rf {work} && mkdir -p {work}", timeout_s=_ASK_S, again=True)
            self._adb.push(manifest.text().encode(), posixpath.join(self._work, _MANIFEST))
            command = self._bundle.command(self.folder, _MANIFEST, wrapper=self._wrapper)
            ended = self._adb.shell(f"cd {work} && {command}", timeout_s=limit_s, silent_s=step_s, on_stdout=take)
        except ConnectionLost as lost:
            outcome.end, outcome.reason = "lost", str(lost)
            return outcome
        except TooSlow:
            if outcome.begun is None:
                raise
            outcome.end, outcome.reason = "crashed", f"it did not end within {step_s:.0f} s"
            return outcome
        if not finished:
            self._blame(outcome, ended)
        return outcome

    def pull(self, name: str) -> bytes:
        """A file that the runner left in its working folder, by a name of its own telling. Raises: DeviceError."""
        return self._adb.pull(posixpath.join(self._work, name), most_bytes=_MOST_PROFILE_BYTES)

    def tidy(self) -> None:
        """Removes the working folder."""
        self._adb.shell(f"rm -rf {quote(self._work)}", timeout_s=_ASK_S, again=True)

    @staticmethod
    def _blame(outcome: Outcome, ended: ShellResult) -> None:
        """A start that ended early: the step that had begun took it down, or it refused all of it, or never ran."""
        said = printable(ended.stderr.decode("utf-8", "replace")[-400:], 300)
        wholly = [failed for failed in outcome.failed if failed.step is None]
        if wholly:
            remedy = _REMEDIES.get(wholly[0].code, "type `amc selfcheck`")
            raise DeviceError(f"the runner refused: {printable(wholly[0].message, 300).rstrip('.')}; {remedy}")
        number = ended.code - 128 if ended.code > 128 else 0
        how = f"signal {number}, {_SIGNALS.get(number, 'unknown')}" if number else f"exit code {ended.code}"
        if outcome.begun is None and not outcome.timed and not outcome.failed:
            raise DeviceError(
                f"the runner does not start on the device ({how}{': ' + said if said else ''}); "
                "type `amc selfcheck --device ...` and see its report"
            )
        outcome.end, outcome.reason = "crashed", f"the runtime crashed in it ({how})"


def _check(event: Event, steps: int) -> None:
    """Raises: DeviceError for an event of a step that was not asked for."""
    if isinstance(event, Begun | Timed | Failed) and event.step is not None and event.step >= steps:
        raise DeviceError(f"the device speaks of step {event.step}, but was given {steps}; type `amc selfcheck`")
