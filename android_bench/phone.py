"""What a phone is and how it feels, without root: from getprop, /proc, /sys and dumpsys, each of which may be missing.

Two shell scripts ask for everything at once, one for what stays (`identify`), one for what changes (`feel`). Whatever
comes back is the phone's word and may be anything: it is parsed with patience, and never executed or printed raw.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from amc_mobile.errors import DeviceError
from amc_mobile.measurements import Conditions
from android_bench.adb import ShellResult, printable

FOLDERS = ("/data/local/tmp", "/tmp")  # noqa: S108 - on the phone: where its shell may write and execute
_CPU = "/sys/devices/system/cpu"
_LOAD_WINDOW_S = 0.3
_PROPERTIES = (
    "ro.product.manufacturer",
    "ro.product.model",
    "ro.product.device",
    "ro.soc.manufacturer",
    "ro.soc.model",
    "ro.board.platform",
    "ro.build.version.release",
    "ro.build.version.sdk",
    "ro.build.fingerprint",
    "ro.product.cpu.abilist",
    "ro.kernel.qemu",
    "ro.boot.qemu",
    "ro.serialno",
)
_IDENTITY = "\n".join(
    [
        *(f"echo '@ {name}'; getprop {name} 2>/dev/null" for name in _PROPERTIES),
        "echo '@ machine'; uname -m",
        "echo '@ kernel'; uname -sr",
        "echo '@ boot'; cat /proc/sys/kernel/random/boot_id 2>/dev/null",
        f"echo '@ online'; cat {_CPU}/online 2>/dev/null",
        f"for core in {_CPU}/cpu[0-9]*; do",
        "  echo '@ core'; echo $core",
        "  echo '@ capacity'; cat $core/cpu_capacity 2>/dev/null",
        "  echo '@ most_khz'; cat $core/cpufreq/cpuinfo_max_freq 2>/dev/null",
        "done",
        "echo '@ zones'; for zone in /sys/class/thermal/thermal_zone*; do",
        "  echo $zone $(cat $zone/type 2>/dev/null); done",
        "echo '@ processor'; head -n 12 /proc/cpuinfo 2>/dev/null",
        *(f"if [ -d {path} ] && [ -w {path} ]; then echo '@ folder {n}'; fi" for n, path in enumerate(FOLDERS)),
        "true",
    ]
)
_STATE = "\n".join(
    [
        "echo '@ busy'; head -n 1 /proc/stat 2>/dev/null",
        f"sleep {_LOAD_WINDOW_S}; echo '@ busy'; head -n 1 /proc/stat 2>/dev/null",
        f"for core in {_CPU}/cpu[0-9]*; do",
        "  echo '@ core'; echo $core",
        "  echo '@ khz'; cat $core/cpufreq/scaling_cur_freq 2>/dev/null",
        "  echo '@ governor'; cat $core/cpufreq/scaling_governor 2>/dev/null",
        "done",
        "for zone in /sys/class/thermal/thermal_zone*; do",
        "  echo '@ zone'; cat $zone/type 2>/dev/null; cat $zone/temp 2>/dev/null",
        "done",
        "echo '@ thermal'; dumpsys thermalservice 2>/dev/null | head -c 20000",
        "echo; echo '@ battery'; dumpsys battery 2>/dev/null | head -c 4000",
        "echo; echo '@ saver'; settings get global low_power 2>/dev/null",
        "true",
    ]
)
HOT_BATTERY_CELSIUS = 45.0
_ASK_S = 30.0
_MOST_BYTES = 2**20
_CPU_ZONE = re.compile(r"cpu|big|little|mid|cluster|soc|tsens|x86_pkg", re.IGNORECASE)
_READING = re.compile(r"Temperature\{mValue=(-?[\d.]+), mType=(\d+), mName=([^,}]*)")
_THERMAL_CPU = "0"  # android.os.Temperature.TYPE_CPU


class Shell(Protocol):
    """The part of a connection that is needed here."""

    def shell(self, command: str, *, timeout_s: float, most_bytes: int = ..., again: bool = ...) -> ShellResult:
        """Runs one command line on the phone."""
        ...


@dataclass(frozen=True, slots=True)
class Core:
    """One core: how strong it is beside the others (1024 is the strongest), and its highest clock; None if unknown."""

    index: int
    capacity: int | None = None
    most_khz: int | None = None


@dataclass(frozen=True, slots=True)
class Phone:
    """What a phone is. Texts are printable; what it does not tell is empty."""

    manufacturer: str
    model: str
    soc: str
    android: str  # "14", empty on a plain Linux
    sdk: int | None
    fingerprint: str
    abis: tuple[str, ...]  # the best first: "arm64-v8a"
    machine: str  # of the kernel: "aarch64"
    kernel: str
    cores: tuple[Core, ...]
    zones: tuple[tuple[str, str], ...]  # thermal zones of the processor: place and type
    folder: str  # where its shell may write and execute
    emulator: bool = False
    unit: str = ""  # the same for one and the same phone only, however it is reached; changes when it starts again

    @property
    def name(self) -> str:
        """Maker and model in words: "Google Pixel 8"."""
        if self.model.lower().startswith(self.manufacturer.lower()):
            return self.model
        return f"{self.manufacturer} {self.model}".strip()

    @property
    def os(self) -> str:
        """The system in words: "Android 14", or that of the kernel."""
        return f"Android {self.android}" if self.android else self.kernel

    def big_cores(self) -> tuple[int, ...]:
        """The strongest cores: those of the highest capacity, else of the highest clock, else all."""
        for strengths in ({c.index: c.capacity for c in self.cores}, {c.index: c.most_khz for c in self.cores}):
            known = {index: value for index, value in strengths.items() if value}
            if known:
                return tuple(index for index, value in known.items() if value == max(known.values()))
        return tuple(core.index for core in self.cores)

    def strongest(self, threads: int) -> tuple[int, ...]:
        """At least so many cores, the strongest first taken, whole clusters at a time. Sorted."""
        order = sorted(self.cores, key=lambda core: (-(core.capacity or 0), -(core.most_khz or 0), core.index))
        taken = set(self.big_cores())
        for core in order:
            if len(taken) < threads:
                taken |= {c.index for c in order if (c.capacity, c.most_khz) == (core.capacity, core.most_khz)}
        return tuple(sorted(taken))


@dataclass(frozen=True, slots=True)
class State:
    """How a phone feels now. What it does not tell is None."""

    conditions: Conditions
    thermal_status: int | None = None  # 0 none, 1 light, 2 moderate, 3 severe, ... (android.os.PowerManager)
    battery_celsius: float | None = None
    charging: bool | None = None
    saver: bool | None = None  # battery saver

    def hot(self) -> str:
        """Why it would slow itself down, or nothing."""
        if self.thermal_status is not None and self.thermal_status >= 1:
            return f"thermal status {self.thermal_status}"
        if self.battery_celsius is not None and self.battery_celsius >= HOT_BATTERY_CELSIUS:
            return f"battery at {self.battery_celsius:.0f} °C"
        return ""


def identify(shell: Shell) -> Phone:
    """Asks the phone what it is. Raises: DeviceError if it has no folder in which its shell may work."""
    blocks = list(_blocks(_ask(shell, _IDENTITY)))
    said = {key: lines[0] if lines else "" for key, lines in reversed(blocks)}
    folders = [path for number, path in enumerate(FOLDERS) if f"folder {number}" in said]
    if not folders:
        raise DeviceError(
            f"the device's shell can write in none of {', '.join(FOLDERS)}; free some space there, or check `adb shell`"
        )
    soc = " ".join(filter(None, (said.get("ro.soc.manufacturer"), said.get("ro.soc.model"))))
    lines = dict(blocks)
    return Phone(
        manufacturer=said.get("ro.product.manufacturer", ""),
        model=said.get("ro.product.model", "")
        or _processor(lines.get("processor", []))
        or said.get("machine")
        or "unknown device",
        soc=soc or said.get("ro.board.platform", ""),
        android=said.get("ro.build.version.release", ""),
        sdk=whole(said.get("ro.build.version.sdk", "")),
        fingerprint=said.get("ro.build.fingerprint", ""),
        abis=tuple(filter(None, said.get("ro.product.cpu.abilist", "").split(","))),
        machine=said.get("machine", ""),
        kernel=said.get("kernel", ""),
        cores=_cores(blocks),
        zones=_zones(lines.get("zones", [])),
        folder=folders[0],
        emulator="1" in (said.get("ro.kernel.qemu"), said.get("ro.boot.qemu")),
        unit=_unit(said),
    )


def _unit(said: Mapping[str, str]) -> str:
    """Serial number and the kernel's start: emulators share the first, containers of one computer the second."""
    serial = said.get("ro.serialno", "")
    return f"{serial} {said.get('boot', '')}".strip() if serial else ""


def feel(shell: Shell) -> State:
    """Asks the phone how it feels: clocks, heat, battery."""
    blocks = list(_blocks(_ask(shell, _STATE)))
    lines = dict(blocks)
    battery = _battery(lines.get("battery", []))
    thermal = "\n".join(lines.get("thermal", []))
    status = re.search(r"Thermal Status: (\d+)", thermal)
    celsius = battery.get("temperature")
    level, scale = battery.get("level"), battery.get("scale") or 100.0
    saver = next(iter(lines.get("saver", [])), "")
    conditions = Conditions(
        time_utc=now_utc(),
        load=_load(blocks),
        clock_khz=tuple(khz for key, said in blocks if key == "khz" and (khz := whole("".join(said[:1])))),
        governor=next((said[0] for key, said in blocks if key == "governor" and said), None),
        temperature_celsius=_hottest(thermal, blocks),
        battery_percent=None if level is None else 100.0 * level / scale,
    )
    return State(
        conditions,
        thermal_status=int(status[1]) if status else None,
        battery_celsius=None if celsius is None else celsius / 10.0,
        charging=bool(battery["powered"]) if "powered" in battery else None,
        saver=saver == "1" if saver in ("0", "1") else None,
    )


def now_utc() -> str:
    """The time of this computer, in seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def celsius(text: str) -> float | None:
    """A temperature as /sys writes it: thousandths of a degree, on some phones tenths or whole ones; None if none.

    >>> celsius("41500"), celsius("415"), celsius("41"), celsius("-40000")
    (41.5, 41.5, 41.0, None)
    """
    value = whole(text) or 0
    if not 1 <= value <= 150_000:
        return None
    return value / (1.0 if value <= 150 else 10.0 if value <= 1500 else 1000.0)


def _ask(shell: Shell, script: str) -> str:
    return shell.shell(script, timeout_s=_ASK_S, most_bytes=_MOST_BYTES, again=True).stdout.decode("utf-8", "replace")


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """The answer's parts, each with the lines that follow its "@ key"."""
    for part in re.split(r"(?m)^@ ", text)[1:]:
        key, *lines = part.split("\n")
        yield key.strip(), [line for line in map(printable, lines) if line]


def _cores(blocks: list[tuple[str, list[str]]]) -> tuple[Core, ...]:
    """The cores that are online, each with what is told about it."""
    online = next((_core_list(lines[0]) for key, lines in blocks if key == "online" and lines), None)
    found: dict[int, dict[str, int | None]] = {}
    index = -1
    for key, lines in blocks:
        if key == "core" and (match := re.search(r"cpu(\d{1,4})$", lines[0] if lines else "")):
            index = int(match[1])
            found[index] = {}
        elif key in ("capacity", "most_khz") and index in found:
            found[index][key] = whole(lines[0]) if lines else None
    return tuple(Core(index, **values) for index, values in sorted(found.items()) if online is None or index in online)


def _core_list(text: str) -> set[int] | None:
    """The cores in a list such as 0-3,6; None for anything else."""
    if not re.fullmatch(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*", text):
        return None
    spans = [part.split("-") for part in text.split(",")]
    return {core for span in spans for core in range(int(span[0]), int(span[-1]) + 1)}


def _zones(lines: list[str]) -> tuple[tuple[str, str], ...]:
    """Thermal zones of the processor, eight at most: a phone may have a hundred."""
    pairs = [line.partition(" ") for line in lines]
    return tuple((place, kind) for place, _, kind in pairs if kind and _CPU_ZONE.search(kind))[:8]


def _processor(lines: list[str]) -> str:
    said: Mapping[str, str] = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    return said.get("model name") or said.get("Hardware") or ""


def _battery(lines: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in lines:
        key, _, value = line.partition(":")
        number = whole(value.strip())
        if key.strip() in ("level", "scale", "temperature") and number is not None:
            found[key.strip()] = float(number)
        if key.strip().endswith(" powered"):
            found["powered"] = max(found.get("powered", 0.0), float(value.strip() == "true"))
    return found


def _load(blocks: list[tuple[str, list[str]]]) -> float | None:
    """Cores that were busy between the two readings; nobody of ours computes then."""
    readings = [lines[0].split()[1:9] for key, lines in blocks if key == "busy" and lines]
    cores = sum(key == "core" for key, _ in blocks)
    if len(readings) != 2 or not all(text.isdigit() for reading in readings for text in reading):
        return None
    spent = [int(after) - int(before) for before, after in zip(*readings, strict=False)]
    if len(spent) != 8 or sum(spent) <= 0:
        return None
    idle = spent[3] + spent[4]
    return round(max(cores, 1) * (sum(spent) - idle) / sum(spent), 2)


def _hottest(thermal: str, blocks: list[tuple[str, list[str]]]) -> float | None:
    """The hottest of the processor's own sensors: Android's, else the kernel's."""
    read = [float(value) for value, kind, _ in _READING.findall(thermal) if kind == _THERMAL_CPU]
    zones = [lines for key, lines in blocks if key == "zone" and len(lines) == 2]
    read = read or [degrees for kind, text in zones if _CPU_ZONE.search(kind) and (degrees := celsius(text))]
    return max(read, default=None)


def whole(text: str) -> int | None:
    """A whole number of up to 15 digits; None for any other text, however long."""
    return int(text) if re.fullmatch(r"-?\d{1,15}", text.strip()) else None
