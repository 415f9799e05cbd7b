"""The only source of time in this room, so that a replay can bring its own."""

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Return ms since the epoch, UTC."""
        ...


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


@dataclass(slots=True)
class SimulatedClock:
    """Stands still until it is set; a replay sets it to one bar's close after the other."""

    at_ms: int

    def now_ms(self) -> int:
        return self.at_ms
