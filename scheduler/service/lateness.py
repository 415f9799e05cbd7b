"""Bots whose due bar is missing in the database, whatever anybody's thread says of them.

The net under everything else. A fire can get lost on the way from the calendar to the commit (a claim
whose answer was lost, a bug of ours), and a link of that way only knows its own part. What is committed
is known to the database alone, so it is compared with what the calendar says had to be. The crew is asked
why a bot is late (it waits, or its last outcome explains it), and never whether it is.

A bot is late when the bar that closed last is not committed `grace_ms` after it was due. It is fired
again, `TRIES` times with a growing wait. Then, unless the source has no bar for it or a failure is on
record already, it is charged like any bot that hangs, and the charges stop it in the end. Bots that wait for
a worker or run are not late by their own fault: the deadline of the worker judges those.

Progress is the cursor: once it has moved, a bot is innocent again, however late it still is. Tries are kept
in memory only; if the process dies, the start fires every bot once and counting begins anew.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from jobs.bar.firing import Outcome
from jobs.schedule import Boundaries
from scheduler.service.jobrow import JobRow

TRIES: Final = 4
SHORTEST_GRACE_MS: Final = 10_000


def newest_bar(trigger: Boundaries, now_ms: int) -> int:
    """Return the open time of the last bar that a bot on this trigger has been fired for by now."""
    closed = (now_ms - trigger.settle_ms) // trigger.length_ms * trigger.length_ms
    return closed - trigger.length_ms


def late_bots(
    jobs: Mapping[int, JobRow],
    cursors: Mapping[int, tuple[int | None, int | None]],
    now_ms: int,
    grace_ms: int,
) -> tuple[int, ...]:
    """Compare what is committed with what had to be. Bots on a cron have no bar that is due at a time."""
    found = []
    for bot_id, row in jobs.items():
        trigger = row.trigger
        if not isinstance(trigger, Boundaries) or bot_id not in cursors:
            continue
        last_bar = cursors[bot_id][0]
        if last_bar is None or last_bar < newest_bar(trigger, now_ms - grace_ms):
            found.append(bot_id)
    return tuple(found)


@dataclass(slots=True)
class Lateness:
    """What was done about the bots that are late. Asked by the loop's thread alone."""

    grace_ms: int
    # Bot -> fires since its last progress, when the next is due (ms), at which cursor it stood. A bot that
    # is not late any more is forgotten.
    _tries: dict[int, tuple[int, int, int | None]] = field(default_factory=dict)

    def judge(
        self,
        late: Iterable[int],
        cursors: Mapping[int, tuple[int | None, int | None]],
        busy: Callable[[int], bool],
        last: Callable[[int], Outcome | None],
        now_ms: int,
    ) -> tuple[list[int], list[int]]:
        """Return whom to fire again and whom to charge."""
        again: list[int] = []
        guilty: list[int] = []
        known, self._tries = self._tries, {}
        for bot_id in late:
            cursor = cursors[bot_id][0]
            tries, at, stood = known.get(bot_id, (0, 0, cursor))
            if stood != cursor:
                tries, at = 0, 0
            if not busy(bot_id) and now_ms >= at:
                tries += 1
                at = now_ms + self.grace_ms * 2 ** min(tries, 6)
                if tries > TRIES and not _excused(last(bot_id)):
                    guilty.append(bot_id)
                else:
                    again.append(bot_id)
            self._tries[bot_id] = (tries, at, cursor)
        return again, guilty


def _excused(outcome: Outcome | None) -> bool:
    """Whether the bot's own last word explains it: a failure on record, or no bar to step."""
    return outcome is not None and (outcome.failure is not None or (outcome.bars == 0 and not outcome.behind))
