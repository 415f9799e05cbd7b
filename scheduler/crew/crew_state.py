"""What the crew says of itself: frozen values, replaced as a whole, so that any thread may read them."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Faults:
    """Turns that raised. `why` is empty and `since` None once one did not; `since` is a monotonic s."""

    count: int = 0
    in_a_row: int = 0
    why: str = ""
    since: float | None = None

    def another(self, exc: Exception) -> "Faults":
        since = time.monotonic() if self.since is None else self.since
        return Faults(self.count + 1, self.in_a_row + 1, f"{type(exc).__name__}: {exc}", since)

    def healed(self) -> "Faults":
        return self if self.since is None else Faults(self.count)

    def last_s(self) -> float:
        """Return for how long every turn has raised."""
        return 0.0 if self.since is None else time.monotonic() - self.since


@dataclass(frozen=True, slots=True)
class CrewState:
    """A moment of the crew, for health and status. `waits_s` is how long the oldest bot has waited.

    `refused` is why the database has not let work be done for a while, in its own words; empty if it does.
    `slow` are the bots that are slow against the others, with the ms of their last runs; they run alone,
    and `lane_waits_s` is how long the oldest of those that run alone has waited.
    """

    workers: int
    ready: int
    busy: int
    waiting: int
    running: int
    waits_s: float
    bars: int
    failures: int
    replaced: int
    pids: tuple[int, ...]
    faults: Faults = Faults()
    dropped_prints: int = 0  # bytes of what strategies printed
    refused: str = ""
    slow: tuple[tuple[int, float], ...] = ()
    lane_waits_s: float = 0.0
