"""What a service says of itself, and what can be said of it from outside.

The service writes its status into its row of `service_runs` every few seconds. A reader believes a status
only as long as its heartbeat is fresh: a service that says nothing is not well, whatever it said last.

Seen from inside, the same limit is one of the reasons: a service that has not reached its database for as
long as others believe its last word is as good as dead for them.

A database that answers and refuses (a right, a table, a page is missing) is said in its own words: by the
loop, whose passes fail; by the lease, which is not renewed; by the crew, whose batches are lost.

Every supervising thread has a pulse of its own (`pulse.py`): a thread that is blocked is alive for the system
and of no use to the bots. Three things follow from a look at all of them, each later than the one before:

| a thread ... | after | then |
|---|---|---|
| stands still | `STILL_S` | a reason: status and its exit code are red; if it is vital, no watchdog is fed |
| does so on and on | its own `fatal_s` | `lives` is false: the process ends itself and is started again |
| is dead | at once | both |

A lost database is no reason for a restart, because a restart mends nothing: a pass that meets a frozen one
ends within `LOOP_FRESH_S`, by its time-outs. Nor is a log that nobody reads, or a listener whose edits are
polled.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from jobs.clock import SystemClock
from jobs.settings import Settings
from ops.pulse import Beat
from persistence import leases, runs
from persistence.database import Database, open_database
from persistence.database_errors import DatabaseUnavailable

LOOP_FRESH_S: Final = 30.0  # a pass that meets a frozen database ends within this, by its time-outs
STILL_S: Final = 7.0  # with the 2 s until the next status row, a standstill is seen from outside within 10
FAILING_S: Final = 60.0  # of turns of the crew that all raised: a fresh process may do better
# What the service lacks while a thread does nothing; the log's writer says it itself, with counts.
LACKS: Final = {
    "loop": "no bot is fired",
    "crew": "the workers have nobody to direct them",
    "lease": "nobody renews the lease",
    "listener": "edits are only seen by polling",
    "main": "nobody feeds the watchdog",
}
LONGEST_WAIT_S: Final = 30.0  # of a bot for a worker; all that is due is handed out in a fraction of it


@dataclass(frozen=True, slots=True)
class Health:
    """The health of a running service: ages in s, `reasons` empty if all is well."""

    beats: tuple[Beat, ...]  # of every supervising thread that runs
    database_age_s: float
    leads: bool
    clock_held: bool
    waits_s: float
    refused: tuple[str, ...] = ()  # what the database does not do for this service, in its own words
    crew_fault: str = ""  # what the crew's turns raise, while they do
    crew_failing_s: float = 0.0  # for how long all of them have
    log_fault: str = ""  # what keeps the log from being written

    @property
    def reasons(self) -> tuple[str, ...]:
        found = [_standstill(beat) for beat in self.beats if _stands_still(beat)]
        if self.database_age_s * 1000 > runs.FRESH_MS:
            found.append(f"the database has not answered for {self.database_age_s:.0f} s")
        found.extend(f"the database refuses work, no bot is to blame: {words}" for words in self.refused)
        if self.clock_held:
            found.append("the clock jumped ahead by more than a day: set it right, or restart the service")
        if self.waits_s > LONGEST_WAIT_S:
            found.append(f"a bot has waited for a worker for {self.waits_s:.0f} s")
        if self.crew_fault:
            found.append(f"the crew fails: {self.crew_fault}")
        if self.log_fault:
            found.append(self.log_fault)
        return tuple(found)

    @property
    def moves(self) -> bool:
        """Whether every vital thread comes round: what the watchdog is fed from."""
        return not any(_stands_still(beat) for beat in self.beats if beat.fatal_s is not None)

    @property
    def lives(self) -> bool:
        """Whether what is wrong may heal by itself; if not, the process is ended to be started again."""
        doomed = any(
            beat.fatal_s is not None and (beat.dead or beat.age_s > beat.fatal_s) for beat in self.beats
        )
        return not doomed and self.crew_failing_s <= FAILING_S


def _stands_still(beat: Beat) -> bool:
    return beat.dead or beat.age_s > STILL_S


def _standstill(beat: Beat) -> str:
    how = "is dead" if beat.dead else f"has not come round for {beat.age_s:.0f} s"
    return f"the thread of the {beat.name} {how}: {LACKS[beat.name]}"


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service, or the fact that there is none. Moments in ms since the epoch."""

    running: bool
    healthy: bool
    reasons: tuple[str, ...]
    role: str | None = None
    run: str | None = None
    host: str | None = None
    pid: int | None = None
    user_id: int | None = None
    started_at: int | None = None
    heartbeat_at: int | None = None
    ended_at: int | None = None
    clean: bool | None = None
    lease_epoch: int | None = None
    bots: int = 0
    details: dict[str, Any] | None = None
    standbys: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_status(settings: Settings) -> ServiceStatus:
    """Say how the service of this database is, from outside of it. Raises nothing for a lost database."""
    try:
        database = open_database(settings.database.url)
        try:
            return status_of(database, SystemClock().now_ms())
        finally:
            database.close()
    except DatabaseUnavailable as exc:
        return ServiceStatus(
            running=False, healthy=False, reasons=(f"the database cannot be reached: {exc}",)
        )


def _details(run: runs.Run) -> dict[str, Any]:
    """Return what a service has told of itself; nothing where the row holds something else."""
    try:
        found = json.loads(run.details)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def status_of(database: Database, now_ms: int) -> ServiceStatus:
    """Judge the newest run that leads, or the newest at all. Raises DatabaseUnavailable."""
    with database.read() as connection:
        found = runs.latest_runs(connection, 20)
        lease = leases.read_lease(connection, "scheduler")
    if not found:
        return ServiceStatus(running=False, healthy=False, reasons=("no service has run on this database",))
    alive = [run for run in found if runs.is_alive(run, now_ms)]
    leading = [run for run in alive if run.role == "leader"]
    run = (leading or alive or list(found))[0]
    details = _details(run)
    reasons = tuple(map(str, details.get("reasons") or ()))
    if run.ended_at is not None:
        reasons = ("the service was stopped",)
    elif run not in alive:
        silent = (now_ms - run.heartbeat_at) / 1000
        reasons = (f"the service has said nothing for {silent:.0f} s: it died, or cannot reach the database",)
    return ServiceStatus(
        running=run in alive,
        healthy=run in alive and not reasons,
        reasons=reasons,
        role=run.role,
        run=run.run,
        host=run.host,
        pid=run.pid,
        user_id=run.user_id,
        started_at=run.started_at,
        heartbeat_at=run.heartbeat_at,
        ended_at=run.ended_at,
        clean=run.clean,
        lease_epoch=None if lease is None else lease.epoch,
        bots=int(details.get("bots", 0)),
        details=details,
        standbys=sum(other.role == "standby" for other in alive),
    )
