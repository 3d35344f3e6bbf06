"""A runner that computes how long a network takes instead of running it: quick, exact, and breaks when it is told to.

    bundle = fake_bundle(tmp_path)              # an android_bench.bundle.Bundle whose runner is this script
    with FakeAdbd(tmp_path / "phone") as daemon:
        device = AndroidDevice(adb, settings, lambda abis: bundle)
        script(daemon, at={3: {"do": "crash"}, 5: {"write": {CLOCK: "600000"}}}, models={digest: "crash"})

It speaks android_bench/runner/PROTOCOL.md. A run takes AnalyticDevice's time (tests/fakes/analytic.py) by the file's
bytes, times the highest clock over the current one of the strongest core in use, read on the phone when a session is
timed: halve the clock there and times double. Runs of a session are equal, time that passes is computed as well, the
profile holds fractions of microseconds, and "outputs" steps are run by the real ONNX Runtime.

The script is /served/runner.json on the phone. Sessions count from 0 over all starts (/served/runner.sessions):

* `at`: what happens when a session has begun, by its number. {"do": HAPPENING}, {"write": {phone path: text}},
  {"sleep_s": seconds}, several of them together; what is written comes first.
* `models`: HAPPENING for every session of a model, by the first letters of its file's SHA-256.
* `starts`: HAPPENING before the first line of a start, by the start's number.
* `session_s`: what every session really lasts.

HAPPENINGs: "crash" (a signal), "exit" (code 1), "fail" (the runtime refuses the model), "hang", "flood", "garbage",
"torn" (ends within a line), "refuse" (the manifest).
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_mobile.errors import DeviceError
from android_bench.runner.manifest import VERSION, Manifest, Step, parse
from tests.fakes.fake_law import Law

if TYPE_CHECKING:
    from android_bench.bundle import Bundle
    from tests.fakes.adbd import FakeAdbd

LIBRARY = "libonnxruntime.so"
RUNTIME = "9.9.9"
LOAD_US = 1500.0
SETTLING = (3.0, 1.5)  # times the first runs of a session take, in runs
_SCRIPT, _SESSIONS, _STARTS = "served/runner.json", "served/runner.sessions", "served/runner.starts"
_CPU = "sys/devices/system/cpu"


class FakeRunner:
    """One start of the runner, in the folder that it was started in. `root` is the phone's sandbox."""

    def __init__(self, manifest: Manifest, root: Path) -> None:
        self._manifest = manifest
        self._root = root
        self._script = _read_json(root / _SCRIPT)
        self._broken: set[int] = set()

    def run(self) -> int:
        """Does all steps. The exit code."""
        happening = self._script.get("starts", {}).get(str(_count(self._root / _STARTS)))
        if happening:
            self._happen(happening, None)
        cores = self._granted()
        if cores is None:
            return _refuse("option", "none of these cores can be used", 5)
        providers = ["XnnpackExecutionProvider", "NnapiExecutionProvider", "CPUExecutionProvider"]
        known = {"protocol": VERSION, "runner": "fake", "onnxruntime": RUNTIME, "api": 14, "abi": "arm64-v8a"}
        _say("hello", **known, providers=providers, cores=cores, clock=self._manifest.clock)
        for number, step in enumerate(self._manifest.steps):
            self._step(number, step)
        _say("done")
        return 0

    def _step(self, number: int, step: Step) -> None:
        _say("begun", step=number)
        if step.model in self._broken:
            _say("failed", step=number, code="skipped", message="an earlier step of this model failed")
            return
        path = Path(self._manifest.models[step.model].path)
        try:
            law = Law.of(path, self._root / "served")
        except (OSError, ValueError) as error:
            self._fail(number, step, f"it does not load: {error}")
            return
        if self._eventful(number, path):
            self._fail(number, step, "it does not load: as the script says")
            return
        run_us = law.run_us * self._slowness()
        told: dict[str, Any] = self._times(step, run_us)
        if step.kind == "profile":
            told |= self._profile(number, law, self._slowness(), len(told["warmups_us"]) + len(told["values_us"]))
        if step.kind == "outputs":
            told |= {"outputs": self._outputs(number, step)}
        if step.optimised:
            told |= {"optimised": f"optimised-{number}.onnx"}
            Path(told["optimised"]).write_bytes(path.read_bytes())
        _say("timed", step=number, **told, samples=self._samples(), peak_bytes=30_000_000 + path.stat().st_size)

    def _fail(self, number: int, step: Step, why: str) -> None:
        self._broken.add(step.model)
        _say("failed", step=number, code="model", message=why)

    # ---------------------------------------------------------------------------------------------- what happens

    def _eventful(self, number: int, model: Path) -> bool:
        """Lets happen what the script has for this session. True if the model is to fail."""
        session = _count(self._root / _SESSIONS)
        event: Mapping[str, Any] = self._script.get("at", {}).get(str(session), {})
        for path, text in event.get("write", {}).items():
            _write(self._root / path.lstrip("/"), f"{text}\n")
        time.sleep(float(event.get("sleep_s", 0.0)) + float(self._script.get("session_s", 0.0)))
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        always = (what for start, what in self._script.get("models", {}).items() if digest.startswith(start))
        happening = event.get("do") or next(always, None)
        return happening is not None and self._happen(happening, number)

    @staticmethod
    def _happen(happening: str, step: int | None) -> bool:
        """True for "fail"; most others do not come back."""
        if happening == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif happening == "exit":
            os._exit(1)
        elif happening == "refuse":
            os._exit(_refuse("manifest", "it is not understood", 3))
        elif happening == "hang":
            time.sleep(3600.0)
        elif happening == "torn":
            os.write(1, b'{"event":"timed","st')
            os._exit(0)
        elif happening == "garbage":
            os.write(1, b"\x00\xff\x1b[2J not a line of ours\n" * 10)
        while happening == "flood":
            os.write(1, b'{"event":"begun","step":0} ' * 1000)
        return happening == "fail"

    # ---------------------------------------------------------------------------------------------- what it takes

    def _times(self, step: Step, run_us: float) -> dict[str, Any]:
        """Times of a session by the law; the first runs take longer, as they do."""
        most = int(min(step.most_time_s, 1e6) * 1e6 / run_us)
        warmups = min(step.warmups, max(2, most))
        slow = [run_us * times for times in SETTLING] + [run_us] * warmups
        value_us = round(run_us, 3)
        runs = max(step.runs, int(step.min_time_s * 1e6 / run_us + 1.0) if step.min_time_s else 0)
        runs = min(runs, max(step.fewest_runs, most))
        return {
            "load_us": LOAD_US,
            "first_run_us": round(slow[0], 3),
            "warmups_us": [round(us, 3) for us in slow[:warmups]],
            "values_us": [value_us] * runs,
        }

    def _slowness(self) -> float:
        """How much slower than at the highest clock, by the strongest core in use; 1 where the phone does not tell."""
        clocks = [(self._khz(core, "cpuinfo_max_freq"), self._khz(core, "scaling_cur_freq")) for core in self._cores()]
        known = [(most, now) for most, now in clocks if most and now]
        return max(known)[0] / max(known)[1] if known else 1.0

    def _khz(self, core: int, name: str) -> int:
        try:
            return int((self._root / f"{_CPU}/cpu{core}/cpufreq/{name}").read_text())
        except (OSError, ValueError):
            return 0

    def _cores(self) -> list[int]:
        there = sorted(int(path.name[3:]) for path in (self._root / _CPU).glob("cpu[0-9]*"))
        return [core for core in self._manifest.cores or there if core in there or not there]

    def _granted(self) -> list[int] | None:
        cores = self._cores()
        return None if self._manifest.cores and not cores else cores

    def _samples(self) -> dict[str, str]:
        found = {}
        for name, path in self._manifest.samples.items():
            here = self._root / path.lstrip("/")
            try:
                found[name] = (here if here.exists() else Path(path)).read_text().split("\n")[0]
            except OSError:
                continue  # what cannot be read is missing
        return found

    # ---------------------------------------------------------------------------------------------- what it leaves

    def _profile(self, number: int, law: Law, slowness: float, runs: int) -> dict[str, Any]:
        events: list[dict[str, Any]] = [{"cat": "Session", "name": "model_run", "dur": 1, "ts": 0, "args": {}}]
        for run in range(runs):
            for name, kind, us in law.nodes:
                args = {"op_name": kind, "provider": "CPUExecutionProvider"}
                dur = round(us * slowness, 3)
                events.append({"cat": "Node", "name": f"{name}_kernel_time", "dur": dur, "ts": run, "args": args})
        name = f"profile-{number}_2026-01-01_00-00-00.json"
        Path(name).write_text(json.dumps(events))
        return {"profile": name, "nodes_per_provider": {"CPUExecutionProvider": len(law.nodes)}}

    def _outputs(self, number: int, step: Step) -> list[dict[str, Any]]:
        """The outputs that the real runtime gives for the real inputs."""
        import numpy as np
        import onnxruntime

        from android_bench.runner.inputs import made_up

        model = self._manifest.models[step.model]
        session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
        given = {}
        for item in session.get_inputs():
            shape = [size if isinstance(size, int) else model.free.get(size, 1) for size in item.shape]
            dtype = {"tensor(float)": "<f4", "tensor(float16)": "<f2", "tensor(double)": "<f8"}.get(item.type, "<i8")
            file = model.inputs.get(item.name)
            made = np.fromfile(file, dtype).reshape(shape) if file else made_up(item.name, shape, dtype)
            given[item.name] = made
        told = []
        for place, (item, values) in enumerate(zip(session.get_outputs(), session.run(None, given), strict=True)):
            file = f"output-{number}-{place}.bin"
            Path(file).write_bytes(values.tobytes())
            told.append({"name": item.name, "type": str(values.dtype), "shape": list(values.shape), "file": file})
        return told


# -------------------------------------------------------------------------------------------------- what tests use


def fake_bundle(folder: Path, abi: str = "arm64-v8a") -> Bundle:
    """A bundle whose runner is this script."""
    from android_bench.bundle import Bundle

    folder.mkdir(parents=True, exist_ok=True)
    runner = folder / "runner"
    here = Path(__file__).parents[2]
    runner.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(here)!r})\n"
        "from tests.fakes.fake_runner import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    runner.chmod(0o755)
    library = folder / LIBRARY
    library.write_bytes(b"not a library")
    files = {"runner": runner, LIBRARY: library}
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files.values())).hexdigest()
    return Bundle(
        abi=abi,  # type: ignore[arg-type]
        build="fake",
        runtime=f"onnxruntime {RUNTIME}",
        digest=digest,
        files=files,
        executables=frozenset({"runner"}),
    )


def script(daemon: FakeAdbd, **told: Any) -> None:
    """Writes the script: `at`, `models`, `starts`, `session_s`. Numbers of sessions go on from where they are."""
    daemon.sandbox.write("/" + _SCRIPT, json.dumps(told))


def sessions(daemon: FakeAdbd) -> int:
    """How many sessions were begun so far, over all starts."""
    return _counted(daemon.root / _SESSIONS)


def starts(daemon: FakeAdbd) -> int:
    """How many times the runner was started so far."""
    return _counted(daemon.root / _STARTS)


# -------------------------------------------------------------------------------------------------- the program


def main(arguments: list[str]) -> int:
    """The runner's command line. The exit code."""
    if len(arguments) != 1:
        return _refuse("usage", "one manifest, please", 2)
    try:
        manifest = parse(Path(arguments[0]).read_text())
    except (OSError, DeviceError) as error:
        return _refuse("manifest", str(error), 3)
    if not Path(manifest.library).exists():
        return _refuse("library", f"{manifest.library} is not there", 4)
    return FakeRunner(manifest, Path(os.environ.get("AMC_PHONE_ROOT", "/"))).run()


def _say(event: str, **told: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **told}) + "\n")
    sys.stdout.flush()


def _refuse(code: str, message: str, exit_code: int) -> int:
    _say("failed", step=None, code=code, message=message)
    return exit_code


def _counted(path: Path) -> int:
    return len(path.read_bytes()) if path.exists() else 0


def _count(path: Path) -> int:
    """The next number: one byte is added to a file for each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b".")
        file.flush()
        return file.tell() - 1


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text)
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
