"""When an exchange is left alone: the circuit breaker as a value and its moves.

closed -> open for a while after a failure -> the next question is a trial -> closed, or open for
longer. A ban is kept to the end that the venue named. The value can be stored, so that neither a
restart nor a second worker asks into a ban.
"""

from dataclasses import dataclass
from typing import Final, Protocol

FIRST_PAUSE_MS: Final = 1_000
LONGEST_PAUSE_MS: Final = 30_000
# Quick failures before the exchange is left alone; a time-out has cost everybody seconds already.
TOLERATED: Final = 3
BAN_PAUSE_MS: Final = 120_000
LIMIT_PAUSE_MS: Final = 10_000
LONGEST_BAN_MS: Final = 3 * 86_400_000


@dataclass(frozen=True, slots=True)
class Breaker:
    """`opened_at` and `open_for` in ms; both are kept, so that a clock set back does not keep it open."""

    failures: int = 0
    opened_at: int = 0
    open_for: int = 0
    reason: str = ""

    def closes_in(self, now: int) -> int:
        """Return for how many ms more nobody may ask; 0 if somebody may."""
        passed = now - self.opened_at
        return 0 if passed < 0 else max(0, self.open_for - passed)


CLOSED: Final = Breaker()


@dataclass(frozen=True, slots=True)
class Trouble:
    """One failed question. `slow` if it took the whole time-out; `pause_ms` if the venue named a time."""

    reason: str
    slow: bool = False
    pause_ms: int | None = None


def after_trouble(breaker: Breaker, trouble: Trouble, now: int) -> Breaker:
    failures = breaker.failures + 1
    if trouble.pause_ms is not None:
        return Breaker(
            failures, now, min(max(trouble.pause_ms, FIRST_PAUSE_MS), LONGEST_BAN_MS), trouble.reason
        )
    if failures < TOLERATED and not trouble.slow:
        return Breaker(failures, now, 0, trouble.reason)
    pause = min(FIRST_PAUSE_MS << min(failures - 1, 16), LONGEST_PAUSE_MS)
    return Breaker(failures, now, pause, trouble.reason)


class BreakerStore(Protocol):
    """Where the breakers of exchanges are kept, by exchange id."""

    def load(self, exchange: str) -> Breaker: ...
    def save(self, exchange: str, breaker: Breaker) -> None: ...


class MemoryBreakers:
    """Breakers of this process alone."""

    def __init__(self) -> None:
        self._breakers: dict[str, Breaker] = {}

    def load(self, exchange: str) -> Breaker:
        return self._breakers.get(exchange, CLOSED)

    def save(self, exchange: str, breaker: Breaker) -> None:
        self._breakers[exchange] = breaker
