"""May this phone be measured now? What is hot is waited for; what cannot be helped is refused with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amc_mobile.errors import DeviceError
from android_bench.phone import HOT_BATTERY_CELSIUS, State

LEAST_BATTERY_PERCENT = 30.0
_MODERATE = 2  # thermal status from which on Android slows the processor down noticeably
_LOOK_S = 5.0


@dataclass(slots=True)
class Readiness:
    """Decides whether to begin. `feel` asks the phone; `told` hears what is waited for; time is injected.

    Moderate heat that does not pass is refused. Light heat may be how the phone is in this room: it is waited for once,
    and what is measured in it says so by its state.
    """

    name: str
    feel: Callable[[], State]
    sleep: Callable[[float], None]
    force: bool = False
    cool_s: float = 600.0  # that a hot phone is given
    stays_warm: bool = False  # light heat was waited for in vain

    def require(self, told: Callable[[str], None]) -> State:
        """The state of a phone that may be measured. Raises: DeviceError for one that may not, unless forced."""
        state = self._cool(told)
        if not self.force and (found := obstacles(state)):
            raise DeviceError(f"{self.name} cannot be measured now: {found[0]}, or measure all the same with --force")
        return state

    def _cool(self, told: Callable[[str], None]) -> State:
        state, waited = self.feel(), 0.0
        while not self.force and self._may_cool(state) and waited < self.cool_s:
            told(f"{self.name} is hot ({state.hot()}): waiting")
            self.sleep(_LOOK_S)
            waited += _LOOK_S
            state = self.feel()
        self.stays_warm = bool(state.hot())
        return state

    def _may_cool(self, state: State) -> bool:
        return bool(state.hot()) and (_overheated(state) or not self.stays_warm)


def obstacles(state: State) -> list[str]:
    """Why a phone cannot be measured now, each with its remedy."""
    found = []
    if state.saver:
        found.append("its battery saver is on and holds the clocks down: switch it off")
    percent = state.conditions.battery_percent
    on_mains = state.charging is True and percent == 0.0  # a board without a battery
    if percent is not None and percent < LEAST_BATTERY_PERCENT and not on_mains:
        found.append(f"its battery is at {percent:.0f} %: charge it above {LEAST_BATTERY_PERCENT:.0f} %")
    if _overheated(state):
        found.append(f"it is hot ({state.hot()}): let it cool")
    return found


def _overheated(state: State) -> bool:
    return (state.thermal_status or 0) >= _MODERATE or (state.battery_celsius or 0.0) >= HOT_BATTERY_CELSIUS
