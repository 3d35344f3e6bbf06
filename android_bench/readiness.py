"""May this phone be measured now? What is hot is waited for; what cannot be helped is refused with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amc_mobile.errors import DeviceError
from android_bench.phone import HOT_BATTERY_CELSIUS, State

LEAST_BATTERY_PERCENT = 30.0
_MODERATE = 2  # thermal status from which on Android slows the processor down noticeably
_LOOK_S = 5.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Decides whether to begin. `feel` asks the phone; `told` hears what is waited for; time is injected."""

    name: str
    feel: Callable[[], State]
    sleep: Callable[[float], None]
    force: bool = False
    cool_s: float = 600.0  # that a hot phone is given

    def require(self, told: Callable[[str], None]) -> State:
        """The state of a phone that may be measured. Raises: DeviceError for one that may not, unless forced."""
        state = self._cool(told)
        if not self.force and (found := obstacles(state)):
            raise DeviceError(f"{self.name} cannot be measured now: {found[0]}, or measure all the same with --force")
        return state

    def _cool(self, told: Callable[[str], None]) -> State:
        state, waited = self.feel(), 0.0
        while (why := state.hot()) and not self.force and waited < self.cool_s:
            told(f"{self.name} is hot ({why}): waiting")
            self.sleep(_LOOK_S)
            waited += _LOOK_S
            state = self.feel()
        return state


def obstacles(state: State) -> list[str]:
    """Why a phone cannot be measured now, each with its remedy."""
    found = []
    if state.saver:
        found.append("its battery saver is on and holds the clocks down: switch it off")
    percent = state.conditions.battery_percent
    on_mains = state.charging is True and percent == 0.0  # a board without a battery
    if percent is not None and percent < LEAST_BATTERY_PERCENT and not on_mains:
        found.append(f"its battery is at {percent:.0f} %: charge it above {LEAST_BATTERY_PERCENT:.0f} %")
    if (state.thermal_status or 0) >= _MODERATE or (state.battery_celsius or 0.0) >= HOT_BATTERY_CELSIUS:
        found.append(f"it is hot ({state.hot()}): let it cool")
    return found
