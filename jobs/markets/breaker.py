"""When an exchange is left alone: the circuit breaker as a value and its moves.

| it stands | a quick failure | a time-out | the venue names a time | an answer |
|---|---|---|---|---|
| closed, or its time over | counted; the third in a row opens it | opens it | opens it for as long | closed |
| open | nobody asks | nobody asks | nobody asks | nobody asks |

It opens for 1, 2, 4 ... 30 s by failures in a row. A time-out counts at once because it has cost everybody
seconds already; a quick failure costs nothing, and one or two of them are ordinary. A ban is kept to the end
that the venue named: asking into it lengthens it.

It is a value that is read before every question and written after it, so neither a restart nor a second
worker asks into a ban. Nobody locks it: when its time is over several workers may try at once, and the one
that writes last decides, which costs a question at most. The same if a process dies between an answer and
the record of how it went.
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
    """`failures` in a row; `opened_at` and `open_for` in ms.

    Both of these are kept, and not the end, so that a clock that is set back does not keep it open.
    """

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
