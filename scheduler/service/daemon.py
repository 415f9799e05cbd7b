"""The service from its first line to its exit code.

States: starting (waiting for the database, as long as it takes) -> standby or leading -> stopping.

| thread | does | ends |
|---|---|---|
| main | waits for signals, looks at the loop's heartbeat, feeds the watchdog | with the process |
| loop | the passes (`loop.py`) | when told to; the service does not wait for its last pass |
| lease | renews, or stands by (`leadership.py`) | last of all |
| listener | hears of edits on PostgreSQL | when told to |
| crew | directs the worker processes (`crew.py`) | when its workers have ended |

They leave one another words, events and frozen values, and share no lock of ours but the turns in which
threads write to SQLite (`database.py`), which are bounded.

**Start.** The crew comes first: its workers import what they need while the database is still waited for. The
row of this run is written before there is a lease, so who leads has a row. READY is said after the first
pass that succeeded, because only that shows that it works.

**Stop.** The loop first, so that nothing new is claimed; then the crew, which lets work under way end; then
the statuses and the end of the run; the lease last. Released before, a standby would lead and set statuses
that this service then overwrites.

Exit codes: 0 stopped as asked, 6 refused (another service runs, or the schema is newer), 70 the loop hung
beyond recovery and this process shall be started again by what supervises it.

| the process dies ... | what the next start finds |
|---|---|
| anywhere | a run without an end: the recovery report says so; bots go on from their cursors |
| while stopping | the same; statuses that were not written are written by the next one to lead |
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import structlog
from sqlalchemy.engine import make_url

from jobs.clock import Clock, SystemClock
from jobs.settings import Settings
from jobs.signals import signals_to
from ops.notify import ALIVE, READY, STOPPING, notify, watchdog_s
from persistence import bots, runs, schema
from persistence.database import Database, open_database
from persistence.database_errors import DatabaseUnavailable
from scheduler.crew.crew import Crew
from scheduler.crew.handle import COMMAND
from scheduler.service.leadership import Leadership
from scheduler.service.listener import Listener
from scheduler.service.lockfile import AlreadyRunning, only_service
from scheduler.service.logs import set_up_logs
from scheduler.service.loop import BotScheduler

STOPPED: Final = 0
REFUSED: Final = 6
HUNG: Final = 70
GLANCE_S: Final = 0.5
LONGEST_RETRY_S: Final = 10.0

log = structlog.get_logger(__name__)


def run_service(settings: Settings, *, resume: bool = True) -> int:
    """Run until a signal says stop, and return the exit code.

    Without `resume`, bots that their errors had stopped are started again with the others.
    """
    set_up_logs(settings.service.log_format)
    stop = threading.Event()
    with ExitStack() as held:
        held.enter_context(_signals(stop))
        database = open_database(settings.database.url)
        held.callback(database.close)
        try:
            if database.dialect == "sqlite":
                held.enter_context(only_service(Path(make_url(settings.database.url).database or "")))
            if not _prepare(database, stop):
                return STOPPED
        except (AlreadyRunning, schema.SchemaTooNew) as exc:
            log.error("refused to start", why=str(exc))  # noqa: TRY400 -- the reason is the message
            return REFUSED
        return Service(database, settings, SystemClock()).run(stop, resume=resume)


class Service:
    """The parts of one running service, and the order in which they start and stop."""

    def __init__(
        self, database: Database, settings: Settings, clock: Clock, *, command: tuple[str, ...] = COMMAND
    ) -> None:
        started = clock.now_ms()
        host = socket.gethostname()
        user_id = settings.service.user_id
        self.this_run = runs.Run(
            f"{host}-{os.getpid()}-{started}", host, os.getpid(), user_id, "starting", started, started
        )
        self.database = database
        self.settings = settings
        self.clock = clock
        # The parts, none of which runs yet. The lease and the listener wake the loop.
        self.crew = Crew(settings, clock, command=command)
        self.leadership = Leadership(
            database,
            name="scheduler" if user_id is None else f"scheduler-user-{user_id}",
            holder=self.this_run.run,
            ttl_s=settings.service.lease_ttl_s,
        )
        self.scheduler = BotScheduler(database, settings, self.crew, self.leadership, self.this_run, clock)
        self.leadership.changed = self.scheduler.wakeup
        self.listener = Listener(settings.database.url, self._edited)

    def run(self, stop: threading.Event, *, resume: bool = True) -> int:
        """Serve until `stop` is set."""
        self.crew.start()
        _patiently(stop, lambda: self._begin(resume=resume))
        self.leadership.start()
        self.listener.start()
        loop = threading.Thread(target=self.scheduler.start, name="loop", daemon=True)
        loop.start()
        code = self._watch_over(stop, loop)
        self._stop(clean=code == STOPPED)
        return code

    def _edited(self) -> None:
        self.scheduler.edited.set()
        self.scheduler.wakeup()

    def _begin(self, *, resume: bool) -> None:
        with self.database.write() as connection:
            # It is there already if the answer to an earlier commit was lost.
            if all(run.run != self.this_run.run for run in runs.latest_runs(connection)):
                runs.begin_run(connection, self.this_run)
            if not resume:
                bots.forgive_all(connection, self.settings.service.user_id)

    def _watch_over(self, stop: threading.Event, loop: threading.Thread) -> int:
        """Feed the watchdog from the loop's heartbeat until it is time to stop."""
        said = 0.0
        every = watchdog_s()
        ready = False
        while not stop.wait(GLANCE_S):
            health = self.scheduler.health()
            if not ready and self.scheduler.first_pass.is_set():
                ready = notify(READY) or True
            # Ended from inside: systemd's watchdog would need a minute, and elsewhere there is none.
            if not loop.is_alive() or not health.loop_lives:
                log.critical("the loop does not live any more", reasons=health.reasons)
                return HUNG
            now = time.monotonic()
            if every is not None and now - said >= every:
                said = now
                notify(f"{ALIVE}\nSTATUS={'; '.join(health.reasons) or 'all is well'}")
        return STOPPED

    def _stop(self, *, clean: bool) -> None:
        """No new steps; those under way may finish; then say how it ended, and let a standby lead."""
        notify(STOPPING)
        log.info("stopping")
        leads = self.leadership.fence() is not None  # a standby has no say in the statuses of bots
        self.scheduler.shutdown()
        self.listener.stop()
        finished = self.crew.stop(self.settings.service.stop_timeout_s)
        try:
            now = self.clock.now_ms()
            with self.database.write() as connection:
                if leads:
                    jobs = list(self.scheduler.reconciliation.jobs)
                    bots.move_all(connection, jobs, "stopped", now_ms=now, reason="the service was stopped")
                runs.end_run(connection, self.this_run.run, now_ms=now, clean=clean and finished)
        except DatabaseUnavailable as exc:
            log.warning("the end was not written down", why=str(exc))
        self.leadership.stop()
        log.info("stopped", clean=clean and finished)


def _prepare(database: Database, stop: threading.Event) -> bool:
    """Wait for the database and bring its tables up to date. Return whether that succeeded before `stop`."""

    def ready() -> None:
        if not schema.is_current(database):
            schema.upgrade(database.url)

    return _patiently(stop, ready)


def _patiently(stop: threading.Event, action: Callable[[], None]) -> bool:
    """Do something that needs the database, as often as it takes. Return False if `stop` came first."""
    wait_s = 0.25
    while not stop.is_set():
        try:
            action()
        except DatabaseUnavailable as exc:
            wait_s = min(LONGEST_RETRY_S, wait_s * 2)
            log.warning("the database cannot be reached, trying again", why=str(exc), in_s=wait_s)
            stop.wait(wait_s)
        else:
            return True
    return False


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on the signals that ask a service to end, where this thread may listen to them."""

    def asked(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with signals_to(asked, ("SIGTERM", "SIGINT", "SIGBREAK")):
        yield
