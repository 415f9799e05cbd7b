"""Who runs alone, and why: bots that may keep a worker for long, by what their runs have told.

Four reasons, each with its own end:

| a bot runs alone because ... | until ... |
|---|---|
| it was charged with a hang or a death | it has ended well |
| its bars left something in the process that hurts the next | it is paused or removed |
| its engine was never seen to be built | that engine has come back from building, in whatever worker |
| it is slow against its neighbours | it has been as fast as they `CALM` times in a row |

Slow is a matter of the others: a bot whose bars take longer than `SLOW_MS` and `TIMES_SLOWER` times as long
as those of the faster quarter. Where all bots take their time, nobody is slow, because nobody is held up by
somebody else's. The first slow run of a bot is met by its batch, the next by nobody.

An engine that came back from building once may hang the next time. Then the deadline charges its bot, and
the neighbours have waited once. No clock, no process here; the crew's thread owns it.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from jobs.bar.firing import Outcome

SLOW_MS: Final = 500.0
TIMES_SLOWER: Final = 10.0
CALM: Final = 5
ENGINES_REMEMBERED: Final = 20_000


@dataclass(frozen=True, slots=True)
class Parting:
    """What follows from the outcomes of a batch; `slowed` and `quickened` are to be said, once."""

    alone: frozenset[int]
    together: frozenset[int]
    slowed: tuple[int, ...]
    quickened: tuple[int, ...]


@dataclass(slots=True)
class Lanes:
    _charged: set[int] = field(default_factory=set)
    _spoilers: set[int] = field(default_factory=set)
    _unbuilt: dict[int, str] = field(default_factory=dict)  # the engine that is to be built
    _slow: dict[int, int] = field(default_factory=dict)  # fast runs since the last slow one
    _engines: dict[int, str] = field(default_factory=dict)  # of the bots that have named theirs
    _proven: OrderedDict[str, None] = field(default_factory=OrderedDict)  # came back from building
    _took_ms: dict[int, float] = field(default_factory=dict)  # the last run of each bot

    @property
    def slow(self) -> dict[int, float]:
        """Return the slow bots with the ms that their last runs took, slowest first."""
        found = ((bot_id, self._took_ms.get(bot_id, 0.0)) for bot_id in self._slow)
        return dict(sorted(found, key=lambda pair: -pair[1]))

    @property
    def alone(self) -> frozenset[int]:
        """Return all bots that have to run alone."""
        return frozenset().union(self._charged, self._spoilers, self._unbuilt, self._slow)

    def charge(self, bot_id: int) -> None:
        self._charged.add(bot_id)

    def spoil(self, bot_id: int) -> None:
        self._spoilers.add(bot_id)

    def buildable(self, bot_ids: Iterable[int]) -> list[str]:
        """Return the engines of these bots that may be built beside other bots' work."""
        names = {self._engines[bot_id] for bot_id in bot_ids if bot_id in self._engines}
        return sorted(name for name in names if name in self._proven)

    def careful(self, bot_ids: Collection[int]) -> bool:
        """Whether a batch has to go bar by bar, so that one that hangs takes none with it that was good."""
        return any(bot_id in self._charged for bot_id in bot_ids)

    def learn(self, outcomes: Iterable[Outcome]) -> Parting:
        """Take in what a batch has told."""
        touched: set[int] = set()
        before = set(self._slow)
        for outcome in outcomes:
            touched.add(outcome.bot_id)
            if outcome.unbuilt is not None:
                self._engines[outcome.bot_id] = self._unbuilt[outcome.bot_id] = outcome.unbuilt
                continue
            self._unbuilt.pop(outcome.bot_id, None)
            if outcome.engine is not None:
                self._engines[outcome.bot_id] = outcome.engine
                self._prove(outcome.engine)
            if outcome.failure is None:
                self._charged.discard(outcome.bot_id)
            self._pace(outcome)
        for bot_id in [bot_id for bot_id, name in self._unbuilt.items() if name in self._proven]:
            del self._unbuilt[bot_id]
            touched.add(bot_id)
        alone = frozenset(bot_id for bot_id in touched if self._is_alone(bot_id))
        after = set(self._slow)
        return Parting(
            alone, frozenset(touched - alone), tuple(sorted(after - before)), tuple(sorted(before - after))
        )

    def forget(self, keep: Collection[int]) -> None:
        """Drop all that is known of bots that are not among `keep`."""
        self._charged.intersection_update(keep)
        self._spoilers.intersection_update(keep)
        for known in (self._unbuilt, self._slow, self._engines, self._took_ms):
            for bot_id in [bot_id for bot_id in known if bot_id not in keep]:
                del known[bot_id]

    def _is_alone(self, bot_id: int) -> bool:
        return any(bot_id in kept for kept in (self._charged, self._spoilers, self._unbuilt, self._slow))

    def _prove(self, engine: str) -> None:
        self._proven[engine] = None
        self._proven.move_to_end(engine)
        while len(self._proven) > ENGINES_REMEMBERED:
            self._proven.popitem(last=False)

    def _pace(self, outcome: Outcome) -> None:
        if not outcome.took_ms:  # it had nothing to decide
            return
        bot_id, took = outcome.bot_id, outcome.took_ms
        self._took_ms[bot_id] = took
        if took > SLOW_MS and took > TIMES_SLOWER * self._faster_quarter():
            self._slow[bot_id] = 0
        elif bot_id in self._slow:
            self._slow[bot_id] += 1
            if self._slow[bot_id] >= CALM:
                del self._slow[bot_id]

    def _faster_quarter(self) -> float:
        """Return the ms below which a quarter of all bots stay; asked for slow runs only, which are rare."""
        times = sorted(self._took_ms.values())
        return times[len(times) // 4]
