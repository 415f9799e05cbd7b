"""Bots whose due bar is missing in the database, whatever anybody's thread says of them.

A bot is late when the bar that closed last is not committed `grace` after it was due. It is fired
again, `TRIES` times with a growing wait. Then, unless the source has no bar for it or a failure is
on record already, it is charged like any bot that hangs, and the charges stop it in the end. Bots
that wait for a worker or run are not late by their own fault: the deadline of the worker judges those.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from jobs.bar.firing import Outcome
from jobs.schedule import Boundaries
from scheduler.service.jobrow import JobRow

TRIES: Final = 4
SHORTEST_GRACE_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Late:
    """A bot that is late, and since when its bar was due (ms)."""

    bot_id: int
    due_ms: int


def late_bots(
    jobs: Mapping[int, JobRow],
    cursors: Mapping[int, tuple[int | None, int | None]],
    now_ms: int,
    grace_ms: int,
) -> tuple[Late, ...]:
    """Compare what is committed with what had to be. Bots on a cron have no bar that is due at a time."""
    found = []
    for bot_id, row in jobs.items():
        trigger = row.trigger
        if not isinstance(trigger, Boundaries) or bot_id not in cursors:
            continue
        due = trigger.next_ms(now_ms - grace_ms) - trigger.length_ms
        expected = due - trigger.settle_ms - trigger.length_ms
        last_bar = cursors[bot_id][0]
        if last_bar is None or last_bar < expected:
            found.append(Late(bot_id, due))
    return tuple(found)


@dataclass(slots=True)
class Lateness:
    """How often each late bot was fired again since its last progress, and at which cursor it stood."""

    grace_ms: int
    _tries: dict[int, tuple[int, int, int | None]] = field(default_factory=dict)

    def judge(
        self,
        late: Iterable[Late],
        cursors: Mapping[int, tuple[int | None, int | None]],
        busy: Callable[[int], bool],
        last: Callable[[int], Outcome | None],
        now_ms: int,
    ) -> tuple[list[int], list[int]]:
        """Return whom to fire again and whom to charge."""
        again: list[int] = []
        guilty: list[int] = []
        known, self._tries = self._tries, {}
        for each in late:
            cursor = cursors[each.bot_id][0]
            tries, at, stood = known.get(each.bot_id, (0, 0, cursor))
            if stood != cursor:
                tries, at = 0, 0
            if not busy(each.bot_id) and now_ms >= at:
                tries += 1
                at = now_ms + self.grace_ms * 2 ** min(tries, 6)
                if tries > TRIES and not _excused(last(each.bot_id)):
                    guilty.append(each.bot_id)
                else:
                    again.append(each.bot_id)
            self._tries[each.bot_id] = (tries, at, cursor)
        return again, guilty


def _excused(outcome: Outcome | None) -> bool:
    """Whether the bot's own last word explains it: a failure on record, or no bar to step."""
    return outcome is not None and (outcome.failure is not None or (outcome.bars == 0 and not outcome.behind))
