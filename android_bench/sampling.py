"""How a phone felt at the end of every session: files that the runner reads there, and what is made of them here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from amc_mobile.measurements import Conditions
from android_bench.phone import Phone, celsius, now_utc, whole

_CPU = "/sys/devices/system/cpu"
_LONG_S = 0.2  # of a session, by which the governor has made up its mind
_DROP = 0.05  # of the clock of the cores in use, beyond which a session was throttled
_BATTERY = "/sys/class/power_supply/battery"


def sampled_files(phone: Phone, cores: Sequence[int]) -> dict[str, str]:
    """By name, the files whose first line is read after every session. What is not there stays unread."""
    files = {f"khz {core}": f"{_CPU}/cpu{core}/cpufreq/scaling_cur_freq" for core in cores}
    files |= {f"limit {core}": f"{_CPU}/cpu{core}/cpufreq/scaling_max_freq" for core in cores[:1]}
    files |= {f"zone {number}": f"{place}/temp" for number, (place, _) in enumerate(phone.zones)}
    files |= {"battery": f"{_BATTERY}/capacity", "busy": "/proc/stat", "own": "/proc/self/stat"}
    return files


@dataclass(frozen=True, slots=True)
class Ticks:
    """Counters of the kernel, in its own ticks: of one core on average, of all cores' work, of the runner's share."""

    each: float
    busy: int
    own: int


def ticks(samples: Mapping[str, str], cores: int) -> Ticks | None:
    """The counters in a sample of a phone with so many cores; None where it hides them."""
    words, own = samples.get("busy", "").split(), samples.get("own", "").rpartition(")")[2].split()
    told = [number for word in words[1:9] + own[11:13] if (number := whole(word)) is not None]
    if len(told) != 10 or not cores:
        return None
    user, nice, system, idle, iowait, interrupt, soft, steal, own_user, own_system = told
    busy = user + nice + system + interrupt + soft + steal
    return Ticks((busy + idle + iowait) / cores, busy, own_user + own_system)


def load(before: Ticks | None, after: Ticks | None) -> float | None:
    """Cores that others kept busy between two samples of one runner, 0..cores; None where that cannot be told."""
    if before is None or after is None or after.each <= before.each:
        return None
    foreign = after.busy - before.busy - (after.own - before.own)
    return max(0.0, round(foreign / (after.each - before.each), 2))


def conditions(samples: Mapping[str, str], governor: str | None, others: float | None) -> Conditions:
    """What a sample says: the clocks of the cores in use, heat, battery."""
    percent = whole(samples.get("battery", ""))
    heat = [degrees for key, text in samples.items() if key.startswith("zone ") and (degrees := celsius(text))]
    return Conditions(
        time_utc=now_utc(),
        load=others,
        clock_khz=clocks_khz(samples),
        governor=governor,
        temperature_celsius=max(heat, default=None),
        battery_percent=float(percent) if percent is not None and 0 <= percent <= 100 else None,
    )


def clocks_khz(samples: Mapping[str, str]) -> tuple[int, ...]:
    """The clock of every core in use."""
    return _numbers(samples, "khz ")


def _numbers(samples: Mapping[str, str], prefix: str) -> tuple[int, ...]:
    """Those of the samples of that kind that are numbers."""
    told = (whole(text) for name, text in samples.items() if name.startswith(prefix))
    return tuple(number for number in told if number is not None and number >= 0)


class Throttle:
    """Whether the cores in use ran slower than they did at their best in this call.

    A core that works runs at its highest clock, unless heat or a saver hold it down: a lower clock or a lower limit
    than seen before means that the session was not like the others.
    """

    def __init__(self) -> None:
        self._best_khz = 0
        self._limit_khz = 0

    def held_down(self, samples: Mapping[str, str], lasted_s: float) -> str:
        """Why this session does not count, or nothing. In a short one the clock may not be up yet: it is not judged."""
        clock = max(clocks_khz(samples), default=0)
        limit = max(_numbers(samples, "limit "), default=0)
        self._best_khz, self._limit_khz = max(self._best_khz, clock), max(self._limit_khz, limit)
        if limit and limit < (1.0 - _DROP) * self._limit_khz:
            return f"the phone held its clock to {limit / 1000:.0f} instead of {self._limit_khz / 1000:.0f} MHz"
        if clock and lasted_s >= _LONG_S and clock < (1.0 - _DROP) * self._best_khz:
            return f"the clock fell from {self._best_khz / 1000:.0f} to {clock / 1000:.0f} MHz"
        return ""
