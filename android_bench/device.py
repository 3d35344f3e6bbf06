"""A phone as a Device: models go there once, the runner times them, and whatever breaks on the way is made up for.

Every round is one start of the runner. A connection that was lost is opened again and the rest of the round is done;
a session in which the clock fell is dropped and done again when the phone has cooled; a model that takes the runtime
down twice is given up, and the others are still timed.
"""

from __future__ import annotations

import hashlib
import posixpath
import secrets
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import onnx

from amc_mobile.device.node_times import name_uniquely
from amc_mobile.device.protocol import ModelsFailed, Progress
from amc_mobile.errors import DeviceError
from amc_mobile.measurements import Conditions, DeviceInfo, Measurement, TimingJob, TimingProtocol
from amc_mobile.types import Precision
from android_bench import phone as phones
from android_bench import sampling
from android_bench.adb import Adb, printable, quote
from android_bench.bundle import Bundle
from android_bench.installing import install
from android_bench.phone import Phone, State
from android_bench.readiness import Readiness
from android_bench.runner.manifest import Clock, Manifest
from android_bench.running import RunnerOnPhone
from android_bench.schedule import Schedule
from android_bench.store import Store
from android_bench.timing import Memory, Timing, uncounted
from android_bench.turns import turn

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
    "qnn": "QNNExecutionProvider",
}
FOLDER = "amc-mobile"  # everything of ours on a phone lies in it
_WORK = "work-"  # in it, one for each process: where the runner runs and leaves its files
_MOST_KEPT_BYTES = 2**30  # of models on the phone
_FRUITLESS = 3  # starts of the runner in a row that gave nothing
_COOL_S = 600.0  # that a hot phone is given
_START_S = 60.0  # until the runner has loaded its library
_STEP_S = 300.0  # that one session may take at most
_CLEAN_S = 60.0
_EMULATED = 20.0  # times as long under an emulator


@dataclass(frozen=True, slots=True)
class PhoneSettings:
    """How a phone is measured. `cores` None: pinned to its strongest ones."""

    name: str
    threads: int = 1
    optimisation: str = "all"
    precision: Precision = "fp32"
    batch: int = 1
    cores: tuple[int, ...] | None = None
    provider: str = "cpu"
    options: Mapping[str, str] = field(default_factory=dict)  # of the provider
    wrapper: tuple[str, ...] = ()  # a program before the runner: an emulator
    force: bool = False


class AndroidDevice:
    """A phone, or any machine with an ADB daemon. Implements amc_mobile.device.protocol.Device.

    `bundle_for` makes the runner for one of the phone's ABIs, the best first. Nothing is sent before the first
    measurement. `notice` hears one line for whatever goes wrong and is made up for. Time is injected for tests.
    """

    def __init__(
        self,
        adb: Adb,
        settings: PhoneSettings,
        bundle_for: Callable[[Sequence[str]], Bundle],
        *,
        notice: Callable[[str], None] = lambda _line: None,
        sleep: Callable[[float], None] = time.sleep,
        start_s: float = _START_S,
        step_s: float = _STEP_S,
        cool_s: float = _COOL_S,
    ) -> None:
        """Raises: DeviceError for settings that no phone has."""
        if settings.provider not in PROVIDERS:
            raise DeviceError(
                f"there is no provider {settings.provider!r} for phones; type one of {', '.join(PROVIDERS)}"
            )
        if settings.precision not in ("fp32", "int8"):
            raise DeviceError(
                f"{settings.name} is measured in fp32 or int8, not in {settings.precision}; set one of them"
            )
        self.adb = adb
        self.settings = settings
        self._bundle_for = bundle_for
        self._notice: Callable[[str], None] = lambda line: notice(f"{settings.name}: {line}")
        self._sleep = sleep
        self._cool_s = cool_s
        slow = _EMULATED if settings.wrapper else 1.0
        self.memory = Memory(start_s * slow, step_s * slow)
        self._installed: str | None = None
        self._work = f"{_WORK}{secrets.token_hex(4)}"

    # ------------------------------------------------------------------------------------------------ what it is

    @cached_property
    def phone(self) -> Phone:
        """What the phone says of itself."""
        found = phones.identify(self.adb)
        self.memory.cores = len(found.cores)
        return found

    @cached_property
    def bundle(self) -> Bundle:
        """The runner that suits it."""
        return self._bundle_for(self.phone.abis or _abis(self.phone.machine))

    @property
    def cores(self) -> tuple[int, ...]:
        """The cores that are measured on; none where that is not known. Raises: DeviceError for one that is missing."""
        asked = self.settings.cores
        if asked is None:
            return self.phone.strongest(self.settings.threads)
        there = [core.index for core in self.phone.cores]
        if wrong := [core for core in asked if there and core not in there]:
            raise DeviceError(
                f"{self.settings.name} has no core {wrong[0]}, it has {there}; choose others with --cores"
            )
        return asked

    def info(self) -> DeviceInfo:
        """The phone, its runtime, and the settings under which it measures."""
        settings, phone = self.settings, self.phone
        return DeviceInfo(
            name=settings.name,
            model=phone.name,
            os=phone.os,
            runtime=self.bundle.runtime,
            provider=PROVIDERS[settings.provider],
            precision=settings.precision,
            threads=settings.threads,
            optimisation=settings.optimisation,
            details=self._details(),
            emulated=bool(settings.wrapper) or phone.emulator,
            batch=settings.batch,
            node_times=settings.provider == "cpu",
        )

    def state(self) -> State:
        """How it feels now."""
        return phones.feel(self.adb)

    def conditions(self) -> Conditions:
        """Clocks, heat and battery now."""
        return self.state().conditions

    def _details(self) -> dict[str, str]:
        phone = self.phone
        on_providers = ", ".join(f"{name} {count}" for name, count in self.memory.on_providers.items())
        known = {
            "soc": phone.soc,
            "build": f"{self.bundle.build}, {self.bundle.abi}, {self.bundle.digest[:12]}",
            "cores": ",".join(map(str, self.memory.granted or self.cores)),
            "pinned": "yes" if self.cores else "no",
            "clock": "thread CPU time" if self._clock == "thread" else "wall",
            "fingerprint": phone.fingerprint,
            "nodes_per_provider": on_providers,
            "throttled": str(self.memory.throttled or ""),
            "emulator": " ".join(self.settings.wrapper[:1]).rpartition("/")[2],
        }
        return {key: value for key, value in known.items() if value}

    @property
    def _clock(self) -> Clock:
        """As on the host: with one thread the time that it computed, else the wall's."""
        return "thread" if self.settings.threads == 1 and self.settings.provider == "cpu" else "wall"

    # ---------------------------------------------------------------------------------------------- how it measures

    def time_models(
        self, jobs: Sequence[TimingJob], protocol: TimingProtocol, progress: Progress | None = None
    ) -> list[Measurement]:
        """Times several models, in a new shuffled order each round. Answers in the order of the jobs.

        Raises: DeviceError if the phone may not be measured or stays away; ModelsFailed for models that do not run.
        """
        on_cpu = self.settings.provider == "cpu"
        schedule = Schedule(jobs, protocol, frozenset() if on_cpu else uncounted(jobs, self.memory))

        def told(what: str) -> None:
            if progress is not None:
                progress(schedule.done, len(schedule), what)

        with turn(self.adb.address, self._notice):
            self._ready(told)
            before = self.conditions()
            self._measure(schedule, told)
        return self._answers(schedule, before)

    def _measure(self, schedule: Schedule, told: Callable[[str], None]) -> None:
        """Fills the schedule. Raises: DeviceError when nothing more comes of it."""
        jobs = schedule.jobs
        runner, paths = self.runner(told), self.send([_named(job) for job in jobs], told)
        timing = Timing(self.setup(runner.folder), schedule, runner, paths, self.memory)
        fruitless, spare = 0, len(schedule)
        while visits := schedule.next_round():
            done = schedule.done
            outcome = timing.start(visits, told)
            if outcome.end == "lost":
                self._notice("it is gone and waited for")
                self.adb.reconnect()
            dropped = timing.keep(visits, outcome, spare, self._notice)
            spare -= dropped
            fruitless = 0 if schedule.done > done or dropped else fruitless + 1
            if fruitless >= _FRUITLESS:
                raise DeviceError(
                    f"{self.settings.name}: nothing more comes of it ({outcome.reason}); type `amc selfcheck`"
                )
            if dropped:
                self._ready(told)
        runner.tidy()

    def close(self) -> None:
        """Ends the connection."""
        self.adb.close()

    @cached_property
    def _readiness(self) -> Readiness:
        return Readiness(self.settings.name, self.state, self._sleep, self.settings.force, self._cool_s)

    def _ready(self, told: Callable[[str], None]) -> None:
        state = self._readiness.require(told)
        self.memory.governor = state.conditions.governor

    @property
    def root(self) -> str:
        """The folder of ours on the phone."""
        return posixpath.join(self.phone.folder, FOLDER)

    def runner(self, told: Callable[[str], None]) -> RunnerOnPhone:
        """The runner, sent to the phone if it is not there yet."""
        if self._installed is None:
            old = (
                f"find {quote(self.root)} -maxdepth 1 -name '{_WORK}*' -mtime +1 -exec rm -rf {{}} + 2>/dev/null; true"
            )
            self.adb.shell(old, timeout_s=_CLEAN_S, again=True)  # left by processes that were killed
            self._installed = install(self.adb, self.bundle, self.root, _megabytes("the runner", told))
        work = posixpath.join(self.root, self._work)
        return RunnerOnPhone(self.adb, self.bundle, _seen(self._installed), work, self.settings.wrapper)

    def send(self, models: Sequence[bytes], told: Callable[[str], None]) -> list[str]:
        """The places of the models, as the runner sees them; what is not there yet is sent."""
        store = Store(self.adb, posixpath.join(self.root, "files"))
        store.trim(_MOST_KEPT_BYTES)
        names = [f"{hashlib.sha256(model).hexdigest()}.onnx" for model in models]
        places = store.ensure(dict(zip(names, models, strict=True)), _megabytes("models", told))
        return [_seen(places[name]) for name in names]

    def setup(self, folder: str) -> Manifest:
        """What every manifest says, before models and steps.

        XNNPACK has threads of its own, beside which ONNX Runtime's would only be in the way.
        """
        settings, own = self.settings, self.settings.provider == "xnnpack"
        threads = {"intra_op_num_threads": str(settings.threads)} if own else {}
        return Manifest(
            library=self.bundle.library(folder),
            models=(),
            steps=(),
            threads=1 if own else settings.threads,
            level=settings.optimisation,  # type: ignore[arg-type]  # the manifest checks it
            provider=settings.provider,
            options=threads | dict(settings.options),
            config={"session.intra_op.allow_spinning": "0"} if own else {},
            cores=self.cores,
            clock=self._clock,
            samples=sampling.sampled_files(self.phone, self.cores),
        )

    def _answers(self, schedule: Schedule, before: Conditions) -> list[Measurement]:
        states = [reading.state for reading in schedule.readings.values() if reading.state is not None]
        loads = [state.load for state in states if state.load is not None]
        measured = schedule.measurements(replace(before, load=round(statistics.fmean(loads), 2) if loads else None))
        if not schedule.failures:
            return [measured[index] for index in range(len(schedule.jobs))]
        labels = [job.label for job in schedule.jobs]
        reasons = {labels[index]: reason for index, reason in schedule.failures.items()}
        first, why = next(iter(reasons.items()))
        raise ModelsFailed(
            f"{self.settings.name} cannot run {first}: {why}; check the file with onnx.checker",
            reasons,
            {labels[index]: found for index, found in measured.items()},
        )


def remove_everything(adb: Adb) -> int:
    """Removes all that we ever sent to a phone, and answers how many bytes it was. Raises: DeviceError."""
    root = quote(posixpath.join(phones.identify(adb).folder, FOLDER))
    said = adb.shell(f"du -sk {root} 2>/dev/null; rm -rf {root}", timeout_s=_CLEAN_S, again=True)
    if said.code:
        raise DeviceError(f"could not remove {root}: {printable(said.stderr.decode('utf-8', 'replace'))}")
    kilobytes = said.stdout.split(maxsplit=1)[:1]
    return 1024 * int(kilobytes[0]) if kilobytes and kilobytes[0].isdigit() else 0


def _seen(path: str) -> str:
    """A path in our folder on the phone, as it is seen from the runner's working folder."""
    return f"../{path.rpartition(f'/{FOLDER}/')[2]}"


def _megabytes(what: str, told: Callable[[str], None]) -> Callable[[int, int], None]:
    return lambda done, total: told(f"sending {what}, {done / 2**20:.0f} of {total / 2**20:.0f} MB")


def _abis(machine: str) -> tuple[str, ...]:
    """What a plain Linux of that machine runs."""
    return {"aarch64": ("arm64-v8a",), "x86_64": ("x86_64",)}.get(machine, (machine,))


def _named(job: TimingJob) -> bytes:
    """The model with a name for every node where its nodes are to be told apart."""
    if not job.profile:
        return job.model
    proto = onnx.load_from_string(job.model)
    return proto.SerializeToString() if name_uniquely(proto) else job.model
