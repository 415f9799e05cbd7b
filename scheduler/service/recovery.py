"""What a service finds when it begins to lead, for the log and the outbox.

A report and nothing else: no decision follows from it. The bots go on from their cursors either way.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.schedule import Boundaries
from persistence import bots, notifications, runs
from persistence.database import Database
from persistence.leases import Fence
from persistence.ledger import history
from persistence.notifications import Notification
from scheduler.service.jobrow import JobRow
from scheduler.service.lateness import newest_bar


@dataclass(frozen=True, slots=True)
class Recovery:
    """`previous` is how the run before ended; `owed` counts bars that closed and are not committed."""

    previous: str
    bots: int
    open_positions: int
    owing: int
    owed: int

    def __str__(self) -> str:
        return (
            f"previous run: {self.previous}; {self.bots} bots scheduled,"
            f" {self.open_positions} open positions;"
            f" {self.owing} bots owe {self.owed} bars, which are caught up from their cursors"
        )


def take_stock(
    database: Database, jobs: Mapping[int, JobRow], run: str, now_ms: int, user_id: int | None
) -> Recovery:
    """Read the state of things before the first fire. Raises DatabaseUnavailable."""
    with database.read() as connection:
        found = runs.latest_runs(connection, 20)
        cursors = bots.cursors(connection, user_id)
        positions = len(history.open_positions(connection))
    owed = [_owed(row, cursors[bot_id][0], now_ms) for bot_id, row in jobs.items() if bot_id in cursors]
    return Recovery(
        previous=_previous(found, run, user_id),
        bots=len(jobs),
        open_positions=positions,
        owing=sum(count > 0 for count in owed),
        owed=sum(owed),
    )


def report(database: Database, recovery: Recovery, run: str, now_ms: int, fence: Fence | None = None) -> None:
    """Put the report into the outbox, once per run."""
    note = Notification(f"service:{run}:started", None, None, "service", "Onebar started", str(recovery))
    with database.write(fence) as connection:
        notifications.enqueue(connection, (note,), now_ms=now_ms)


def _previous(found: tuple[runs.Run, ...], run: str, user_id: int | None) -> str:
    for earlier in found:
        if earlier.run == run or earlier.user_id != user_id or earlier.role == "standby":
            continue
        if earlier.ended_at is None:
            return f"not ended cleanly (process {earlier.pid} on {earlier.host} was killed, or still hangs)"
        return "ended cleanly" if earlier.clean else "ended with work cut off"
    return "none"


def _owed(row: JobRow, last_bar: int | None, now_ms: int) -> int:
    trigger = row.trigger
    if last_bar is None or not isinstance(trigger, Boundaries):
        return 0
    return max(0, (newest_bar(trigger, now_ms) - last_bar) // trigger.length_ms)
