"""What this machine is and how it feels, as far as it tells: Linux says most of it, other systems less."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amc_mobile.measurements import Conditions

_CPUS = Path("/sys/devices/system/cpu")
_LOAD_WINDOW_S = 0.05


def cpu_model() -> str:
    """The processor's name, or the architecture where the system hides it."""
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware", "Processor"):
            return value.strip()
    return platform.processor() or platform.machine()


def operating_system() -> str:
    """System and version, such as "Linux 6.1.0"."""
    return f"{platform.system()} {platform.release()}"


def cores() -> tuple[int, ...]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def gpu_model() -> str:
    """The name of the first NVIDIA GPU; raises nothing where there is none."""
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        said = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown GPU"
    return said.partition("\n")[0].strip() or "unknown GPU"


def limits() -> dict[str, str]:
    """What keeps this process from the whole machine: a quota of its container, cores of several speeds."""
    found = {}
    if (quota := quota_cores()) is not None and quota < len(cores()):
        found["quota_cores"] = f"{quota:.2f}"
    fast = fastest_cores()
    if len(fast) < len(cores()):
        found["fastest_cores"] = ",".join(map(str, fast))
    return found


def quota_cores() -> float | None:
    """Cores that the container may keep busy (cgroup v2's cpu.max); None where there is no limit."""
    quota, _, period = _read(Path("/sys/fs/cgroup/cpu.max")).strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def free_bytes() -> int | None:
    """The memory that a new array can have, within the container's limit (cgroup v2); None where nobody tells."""
    lines = (line.split() for line in _read(Path("/proc/meminfo")).splitlines())
    free = [1024 * int(words[1]) for words in lines if words[:1] == ["MemAvailable:"]]
    limit, used = (_read(Path(f"/sys/fs/cgroup/memory.{name}")).strip() for name in ("max", "current"))
    if limit.isdigit() and used.isdigit():
        free.append(int(limit) - int(used))
    return min(free, default=None)


def fastest_cores() -> tuple[int, ...]:
    """The cores with the highest clock, all of them where the system does not tell."""
    peaks = {core: _read(_CPUS / f"cpu{core}/cpufreq/cpuinfo_max_freq").strip() for core in cores()}
    speeds = {core: int(text) for core, text in peaks.items() if text.isdigit()}
    if not speeds:
        return cores()
    return tuple(core for core in cores() if speeds.get(core) == max(speeds.values()))


def conditions() -> Conditions:
    """Load, clocks, governor and heat now. Takes 50 ms, in which the load of other processes is watched."""
    return state(foreign_load())


def state(load: float | None = None) -> Conditions:
    """Clocks, governor and heat now, beside a load that was watched elsewhere. Takes next to no time."""
    return Conditions(
        time_utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        load=load,
        clock_khz=clocks_khz(),
        governor=governor(),
        temperature_celsius=temperature_celsius(),
    )


def foreign_load(window_s: float = _LOAD_WINDOW_S) -> float | None:
    """Cores that other processes keep busy, 0..cores, watched for a moment; None where the system does not tell."""
    meter = LoadMeter()
    time.sleep(window_s)
    return meter.foreign()


class LoadMeter:
    """Watches the cores from its creation on. The counters tick every 10 ms: what is shorter is not seen.

    Args:
        helpers_s: processor time so far of processes that work for this one, and are not foreign; None: there are none.
    """

    def __init__(self, helpers_s: Callable[[], float] | None = None) -> None:
        self._helpers_s = helpers_s
        self._start = self._now()

    def foreign(self) -> float | None:
        """Cores that other processes kept busy meanwhile, 0..cores; None where the system does not tell."""
        before, after = self._start, self._now()
        if before is None or after is None or after[0] <= before[0]:
            return None
        elapsed, busy, own = (late - early for late, early in zip(after, before, strict=True))
        return max(0.0, round((busy - own) / elapsed, 2))

    def _now(self) -> tuple[float, float, float] | None:
        """Wall clock, seconds that all cores were busy, seconds of this process and its helpers."""
        busy, helpers_s = _busy_s(), 0.0 if self._helpers_s is None else self._helpers_s()
        return None if busy is None else (time.perf_counter(), busy, time.process_time() + helpers_s)


def empty_caches() -> None:
    """Walks over more memory than the caches hold, so that nothing that was there before is left."""
    _ballast()[...] += 1


@cache
def _ballast() -> NDArray[np.int64]:
    return np.zeros(2 * _cache_bytes() // 8, np.int64)


def _cache_bytes() -> int:
    """The largest cache of the first core; 32 MiB where the system does not tell."""
    texts = [_read(path).strip() for path in (_CPUS / "cpu0/cache").glob("index*/size")]
    units = {"K": 2**10, "M": 2**20}
    sizes = [int(text[:-1]) * units[text[-1]] for text in texts if text[:-1].isdigit() and text[-1] in units]
    return min(max(sizes, default=2**25), 2**27)


def clocks_khz() -> tuple[int, ...]:
    """The clock of each core now; empty where the system hides it, as most virtual machines do."""
    texts = [_read(_CPUS / f"cpu{core}/cpufreq/scaling_cur_freq") for core in cores()]
    return tuple(int(text) for text in texts if text.strip().isdigit())


def governor() -> str | None:
    """How the first core chooses its clock: "performance", "schedutil", ..."""
    return _read(_CPUS / f"cpu{cores()[0]}/cpufreq/scaling_governor").strip() or None


def temperature_celsius() -> float | None:
    """The hottest thermal zone."""
    texts = [_read(zone / "temp").strip() for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*"))]
    values = [int(text) / 1000 for text in texts if text.lstrip("-").isdigit()]
    return max(values) if values else None


def _busy_s() -> float | None:
    """Seconds that all cores together have spent working or were taken away by the hypervisor."""
    words = _read(Path("/proc/stat")).partition("\n")[0].split()
    if len(words) < 9:
        return None
    user, nice, system, _idle, _iowait, interrupt, soft, steal = (int(word) for word in words[1:9])
    return (user + nice + system + interrupt + soft + steal) / os.sysconf("SC_CLK_TCK")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
