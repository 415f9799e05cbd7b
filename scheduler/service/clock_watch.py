"""Steps of the clock, seen by comparing it with the one that nobody can set.

The schedule follows the wall clock, the waiting follows the monotonic one. A step backwards, a step
forwards and a suspended machine show as a difference between the two. What was slept through is
known from the boot clock where there is one (Linux); there a suspend is no step, whatever its length.

| what happened between two looks | wall | monotonic | boot | told as |
|---|---|---|---|---|
| time passed | +t | +t | +t | nothing |
| the clock was set by s | +t+s | +t | +t | a step; believed unless it adds up to more than a day ahead |
| the machine slept for s | +t+s | +t | +t+s | a suspend; always believed |

All three are read at one look and kept for the next, so a step is told exactly once. What reacts to it may
fail: the loop's other parts then repair the schedule without it (`loop.py`), and only the alert is lost.
Differences below `NOTICED_MS` are forgotten and do not add up: that is how NTP slews a clock.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jobs.clock import Clock

NOTICED_MS: Final = 2_000
LONGEST_JUMP_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class ClockStep:
    """`by_ms` is what the wall clock moved more than time did; `slept_ms` what the machine was suspended."""

    by_ms: int
    slept_ms: int

    def __str__(self) -> str:
        if self.slept_ms > NOTICED_MS and abs(self.by_ms - self.slept_ms) < NOTICED_MS:
            return f"the machine was suspended for {self.slept_ms / 1000:.0f} s"
        way = "forwards" if self.by_ms > 0 else "backwards"
        return f"the clock stepped {way} by {abs(self.by_ms) / 1000:.0f} s"

    @property
    def unexplained_ms(self) -> int:
        return self.by_ms - self.slept_ms


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def suspended_ms() -> int:
    """Return how long the machine has been suspended since it booted; 0 where the system cannot tell."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return 0 if boot is None else time.clock_gettime_ns(boot) // 1_000_000 - monotonic_ms()


class ClockWatch:
    """Ask it at least every few seconds. `held` is True after a jump that no machine makes by itself.

    A clock that jumps forward by more than a day is not believed: bots would be stepped into a
    future that may not exist. It is believed again when it comes back, or when the service is restarted.
    """

    def __init__(
        self,
        clock: Clock,
        monotonic: Callable[[], int] = monotonic_ms,
        suspended: Callable[[], int] = suspended_ms,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._suspended = suspended
        self._last = (clock.now_ms(), monotonic(), suspended())
        self._ahead_ms = 0  # the sum of all steps that no suspend explains

    @property
    def held(self) -> bool:
        return self._ahead_ms > LONGEST_JUMP_MS

    def look(self) -> ClockStep | None:
        """Return the step since the last look, if there was one."""
        now = (self._clock.now_ms(), self._monotonic(), self._suspended())
        wall, passed, slept = (new - old for new, old in zip(now, self._last, strict=True))
        self._last = now
        step = ClockStep(wall - passed, slept)
        if abs(step.by_ms) < NOTICED_MS:
            return None
        self._ahead_ms += step.unexplained_ms
        return step
