"""What a fake phone is: its name, cores, battery and heat, and the files and commands that tell of them.

Everything is served from plain files, so that a test can change it while the daemon runs:

=====================================  =========================================================================
/served/properties                     getprop, lines of "[ro.product.model]: [Pixel 8]"
/served/dumpsys/battery, thermalservice  dumpsys
/served/settings/global/low_power      settings get global low_power
/served/uname                          uname: lines of "m aarch64"
/sys/devices/system/cpu/...            clocks, capacities, governors
/sys/class/thermal/thermal_zone*/      type, temp
/proc/cpuinfo
=====================================  =========================================================================
"""

from __future__ import annotations

import platform
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.fakes.adbd_sandbox import Sandbox

_CPU = "/sys/devices/system/cpu"
_SERVED = {
    "getprop": """
if [ $# -eq 0 ]; then cat {served}/properties
else while read -r key value; do case "$key" in "[$1]:") value="${{value#[}}"; echo "${{value%]}}"; exit;; esac
done < {served}/properties; echo; fi""",
    "dumpsys": """
if [ -e {served}/dumpsys/"$1" ]; then cat {served}/dumpsys/"$1"; else echo "Can't find service: $1"; fi""",
    "settings": """if [ -e {served}/settings/"$2/$3" ]; then cat {served}/settings/"$2/$3"; else echo null; fi""",
    "uname": """
case "$1" in -a) letters=snrvmo;; -*) letters="${{1#-}}";; *) letters=s;; esac
words=
for letter in $(echo $letters | sed 's/./& /g'); do words="$words $(sed -n "s/^$letter //p" {served}/uname)"; done
echo $words""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    capacity: int | None = None  # 1024 is the strongest
    most_khz: int | None = None
    least_khz: int = 300_000
    governor: str = "schedutil"
    part: str = "0xd05"  # of /proc/cpuinfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    percent: int = 85
    tenths_celsius: int = 280
    powered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Phone:
    """A description. `missing` and `unreadable` are paths of files that the phone does not have or does not show;
    `without` are commands that it lacks.
    """

    properties: Mapping[str, str] = field(default_factory=dict)
    machine: str = "aarch64"
    kernel: str = "5.15.110-android14-11"
    cores: tuple[Core, ...] = ()
    battery: Battery | None = None
    thermal_status: int | None = None
    zones: Mapping[str, int] = field(default_factory=dict)  # of the kernel: type to thousandths of a degree
    saver: bool = False
    writable: tuple[str, ...] = ("/data/local/tmp", "/sdcard")
    missing: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def banner(self) -> str:
        """What adbd says of the phone when it is connected to."""
        product = {key: self.properties.get(f"ro.product.{key}", "fake") for key in ("name", "model", "device")}
        return "".join(f"ro.product.{key}={value};" for key, value in product.items())

    def fill(self, sandbox: Sandbox) -> None:
        """Makes the phone's files and commands."""
        for folder in ("/served", "/proc", _CPU, *self.writable):
            sandbox.path(folder).mkdir(parents=True, exist_ok=True)
        sandbox.lend(self.without)
        served = sandbox.path("/served")
        for name, text in _SERVED.items():
            if name not in self.without:
                sandbox.script(name, text.format(served=served))
        for path, text in self._files().items():
            sandbox.write(path, text)
        for path in self.missing:
            sandbox.remove(path)
        for path in self.unreadable:
            sandbox.seal(path)

    def _files(self) -> dict[str, str]:
        files = {
            "/served/properties": "".join(f"[{key}]: [{value}]\n" for key, value in self.properties.items()),
            "/served/uname": f"s Linux\nn localhost\nr {self.kernel}\nv #1 SMP PREEMPT\nm {self.machine}\no Android\n",
            "/served/settings/global/low_power": f"{int(self.saver)}\n",
        }
        if self.battery is not None:
            files["/served/dumpsys/battery"] = battery_text(self.battery)
            files["/sys/class/power_supply/battery/capacity"] = f"{self.battery.percent}\n"
        if self.thermal_status is not None:
            files["/served/dumpsys/thermalservice"] = thermal_text(self.thermal_status, 35.0)
        for number, (kind, value) in enumerate(self.zones.items()):
            files[f"/sys/class/thermal/thermal_zone{number}/type"] = f"{kind}\n"
            files[f"/sys/class/thermal/thermal_zone{number}/temp"] = f"{value}\n"
        if self.cores:
            files |= self._core_files()
        return files

    def _core_files(self) -> dict[str, str]:
        span = f"0-{len(self.cores) - 1}\n" if len(self.cores) > 1 else "0\n"
        files = {f"{_CPU}/{name}": span for name in ("possible", "present", "online")}
        for index, core in enumerate(self.cores):
            folder = f"{_CPU}/cpu{index}"
            files[f"{folder}/topology/physical_package_id"] = "0\n"
            if core.capacity is not None:
                files[f"{folder}/cpu_capacity"] = f"{core.capacity}\n"
            if core.most_khz is not None:
                related = [str(n) for n, other in enumerate(self.cores) if other == core]
                clocks = {"cpuinfo_max_freq": core.most_khz, "scaling_max_freq": core.most_khz}
                clocks |= {"cpuinfo_min_freq": core.least_khz, "scaling_min_freq": core.least_khz}
                clocks |= {"scaling_cur_freq": core.most_khz}
                files |= {f"{folder}/cpufreq/{name}": f"{khz}\n" for name, khz in clocks.items()}
                files[f"{folder}/cpufreq/scaling_governor"] = f"{core.governor}\n"
                files[f"{folder}/cpufreq/related_cpus"] = " ".join(related) + "\n"
        files["/proc/cpuinfo"] = "".join(map(_processor, range(len(self.cores)), self.cores))
        return files


class Controls:
    """What changes on a phone, from a test's hand."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def battery(self, **changed: int) -> None:
        """`percent=`, `tenths_celsius=`, `powered=`; what is not given is as in `Battery`."""
        battery = Battery(**changed)  # type: ignore[arg-type]
        self._sandbox.write("/served/dumpsys/battery", battery_text(battery))
        self._sandbox.write("/sys/class/power_supply/battery/capacity", f"{battery.percent}\n")

    def thermal(self, status: int, cpu_celsius: float = 35.0) -> None:
        self._sandbox.write("/served/dumpsys/thermalservice", thermal_text(status, cpu_celsius))

    def zone(self, number: int, thousandths_celsius: int) -> None:
        self._sandbox.write(f"/sys/class/thermal/thermal_zone{number}/temp", f"{thousandths_celsius}\n")

    def clock(self, core: int, khz: int) -> None:
        self._sandbox.write(f"{_CPU}/cpu{core}/cpufreq/scaling_cur_freq", f"{khz}\n")

    def saver(self, on: bool) -> None:
        self._sandbox.write("/served/settings/global/low_power", f"{int(on)}\n")

    def property(self, name: str, value: str) -> None:
        path = self._sandbox.path("/served/properties")
        kept = [line for line in path.read_text().splitlines(keepends=True) if not line.startswith(f"[{name}]:")]
        self._sandbox.write("/served/properties", "".join(kept) + f"[{name}]: [{value}]\n")


def pixel(**changed: object) -> Phone:
    """A phone like a Pixel 8: Android 14, four small, four middle cores and a big one, cool and charged."""
    described: dict[str, object] = {
        "properties": {
            "ro.product.manufacturer": "Google",
            "ro.product.model": "Pixel 8",
            "ro.product.name": "shiba",
            "ro.product.device": "shiba",
            "ro.soc.manufacturer": "Google",
            "ro.soc.model": "Tensor G3",
            "ro.board.platform": "zuma",
            "ro.build.version.release": "14",
            "ro.build.version.sdk": "34",
            "ro.build.fingerprint": "google/shiba/shiba:14/UQ1A.240205.002/11224170:user/release-keys",
            "ro.product.cpu.abilist": "arm64-v8a",
            "ro.product.cpu.abi": "arm64-v8a",
            "ro.serialno": secrets.token_hex(7).upper(),
        },
        "cores": (
            *4 * (Core(capacity=150, most_khz=1_704_000, part="0xd46"),),
            *4 * (Core(capacity=570, most_khz=2_367_000, part="0xd4d"),),
            Core(capacity=1024, most_khz=2_914_000, part="0xd4e"),
        ),
        "battery": Battery(),
        "thermal_status": 0,
        "zones": {"BIG": 36_000, "MID": 35_000, "LITTLE": 34_000, "battery": 28_000},
    }
    return Phone(**(described | changed))  # type: ignore[arg-type]


def bare(**changed: object) -> Phone:
    """A phone that tells as little as one may: no capacities, no clocks, no heat, no battery, few properties."""
    described: dict[str, object] = {
        "properties": {"ro.product.cpu.abilist": "arm64-v8a", "ro.build.version.sdk": "26"},
        "without": ("dumpsys", "settings"),
    }
    return Phone(**(described | changed))  # type: ignore[arg-type]


def linux(**changed: object) -> Phone:
    """This machine with an ADB daemon: no Android at all."""
    described: dict[str, object] = {
        "machine": platform.machine(),
        "kernel": platform.release(),
        "writable": ("/tmp",),  # noqa: S108 - the phone's
        "without": ("getprop", "dumpsys", "settings"),
    }
    return Phone(**(described | changed))  # type: ignore[arg-type]


def battery_text(battery: Battery) -> str:
    """As `dumpsys battery` says it."""
    return (
        "Current Battery Service state:\n"
        f"  AC powered: false\n  USB powered: {str(bool(battery.powered)).lower()}\n"
        "  Wireless powered: false\n  Dock powered: false\n  Max charging current: 500000\n  Charge counter: 3760000\n"
        f"  status: {2 if battery.powered else 3}\n  health: 2\n  present: true\n"
        f"  level: {battery.percent}\n  scale: 100\n  voltage: 4201\n"
        f"  temperature: {battery.tenths_celsius}\n  technology: Li-ion\n"
    )


def thermal_text(status: int, cpu_celsius: float) -> str:
    """As `dumpsys thermalservice` says it."""
    cpu = f"\tTemperature{{mValue={cpu_celsius}, mType=0, mName=BIG, mStatus={status}}}\n"
    skin = "\tTemperature{mValue=31.2, mType=3, mName=VIRTUAL-SKIN, mStatus=0}\n"
    return (
        "IsStatusOverride: false\nThermalEventListeners:\n\tcallbacks: 1\nThermalStatusListeners:\n\tcallbacks: 2\n"
        f"Thermal Status: {status}\nCached temperatures:\n{cpu}{skin}HAL Ready: true\n"
        f"HAL connection:\n\tThermalHAL 2.0 connected: yes\nCurrent temperatures from HAL:\n{cpu}{skin}"
        "Current cooling devices from HAL:\n\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-2}\n"
    )


def _processor(index: int, core: Core) -> str:
    return (
        f"processor\t: {index}\nBogoMIPS\t: 49.15\n"
        "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm asimddp\n"
        f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\n"
        f"CPU part\t: {core.part}\nCPU revision\t: 0\n\n"
    )
