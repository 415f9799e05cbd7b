"""A row of `apscheduler_jobs` as a value: which bot, when, and on whose exchange it will call.

It is data. It can name one function, and reading it looks nothing up and imports nothing.
"""

import json
from dataclasses import dataclass
from typing import Final

from jobs.schedule import InvalidSchedule, Schedule, parse
from scheduler.crew.alarm import Alarm

FUNCTION: Final = "jobs.bar:run_bar"
PREFIX: Final = "bot:"


@dataclass(frozen=True, slots=True)
class Claim:
    """What one pass found. `next_ms` is the earliest fire of all rows after the claim."""

    alarms: tuple[Alarm, ...]
    unreadable: tuple[str, ...]
    next_ms: int | None


@dataclass(frozen=True, slots=True)
class JobRow:
    """One row, readable. `group` names the exchange that its work calls, for the bulkhead."""

    bot_id: int
    trigger: Schedule
    group: str

    @property
    def id(self) -> str:
        return f"{PREFIX}{self.bot_id}"

    def state(self) -> str:
        return json.dumps(
            {"args": [self.bot_id], "func": FUNCTION, "group": self.group, "trigger": self.trigger.as_json()},
            sort_keys=True,
        )


class UnreadableRow(ValueError):
    """A row of apscheduler_jobs that is not ours to run: damaged, foreign or hostile."""


def parse_row(job_id: str, state: object) -> JobRow:
    """Read a row. Raises UnreadableRow; looks nothing up and imports nothing."""
    try:
        found = json.loads(state) if isinstance(state, str) else None
    except (ValueError, RecursionError) as exc:
        raise UnreadableRow(f"{job_id}: {exc}") from exc
    match found:
        case {"args": [int(bot_id)], "func": str(name), "group": str(group), "trigger": trigger, **rest} if (
            name == FUNCTION and not rest and job_id == f"{PREFIX}{bot_id}"
        ):
            try:
                return JobRow(bot_id, parse(trigger), group)
            except InvalidSchedule as exc:
                raise UnreadableRow(f"{job_id}: {exc}") from exc
    raise UnreadableRow(f"{job_id}: {str(state)[:80]!r} is not a job of a bot")
