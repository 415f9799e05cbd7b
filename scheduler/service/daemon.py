"""The service from its first line to its exit code.

States: starting (waiting for the database, as long as it takes) -> standby or leading -> stopping.

| thread | does | ends |
|---|---|---|
| main | waits for signals, looks at the pulses of the others, feeds the watchdog | with the process |
| log | writes what the others say (`logs.py`) | after all others |
| loop | the passes (`loop.py`) | when told to; its last pass is waited for, for some s |
| lease | renews, or stands by (`leadership.py`) | last of all |
| listener | hears of edits on PostgreSQL | when told to |
| crew | directs the worker processes (`crew.py`) | when its workers have ended |

They leave one another words, events and frozen values, and share no lock of ours but the turns in which
threads write to SQLite (`database.py`), which are bounded.

**Standing still.** Each of them has a pulse. Main looks at all twice a second: a vital one that stands still
is not covered up by feeding the watchdog, and one that does so for its `fatal_s` ends this process with 70,
because no other thread can do its work. The loop looks at main's pulse in the same way. A log that nobody
reads and a listener that hears nothing end nothing: they are told of, and the bots go on.

**Start.** The crew comes first: its workers import what they need while the database is still waited for. The
row of this run is written before there is a lease, so who leads has a row. READY is said after the first
pass that succeeded, because only that shows that it works.

**Stop.** The loop first, so that nothing new is claimed; then the crew, which lets work under way end; then,
once the loop's last pass is over, the statuses and the end of the run; the lease last. Released before, a
standby would lead and set statuses that this service then overwrites.

Exit codes: 0 stopped as asked, 6 refused (another service runs, the schema is newer, the SQLite file is
damaged, or was deleted or replaced under the service: nothing is written from then on), 70 a thread hung
beyond recovery and this process shall be started again by what supervises it.

| the process dies ... | what the next start finds |
|---|---|
| anywhere | a run without an end: the recovery report says so; bots go on from their cursors |
| while stopping | the same; statuses that were not written are written by the next one to lead |
"""

import os
import socket
import sqlite3
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
from ops.health import LOOP_FRESH_S, STILL_S, Health
from ops.notify import ALIVE, READY, STOPPING, notify, watchdog_s
from ops.pulse import Pulse
from persistence import bots, runs, schema
from persistence.connect import session_named
from persistence.database import Database, open_database
from persistence.database_errors import DatabaseMoved, DatabaseUnavailable, LeaseLost
from persistence.leases import Fence
from persistence.sqlite_file import RESTORE, damage, is_damage
from scheduler.crew.crew import Crew
from scheduler.crew.handle import COMMAND
from scheduler.service.leadership import Leadership
from scheduler.service.listener import Listener
from scheduler.service.lockfile import NoLock, only_service
from scheduler.service.logs import LogWriter, set_up_logs
from scheduler.service.loop import BotScheduler

STOPPED: Final = 0
REFUSED: Final = 6
HUNG: Final = 70
GLANCE_S: Final = 0.5
MOVED: Final = (
    "put the file that is to be used in its place, take FILE-wal and FILE-shm of the other away, start again"
)
LONGEST_GLANCE_S: Final = 5.0  # between two looks; a longer one means that this process itself was stopped
HUNG_STOP_S: Final = 2.0  # that parts get to end when one of them hangs: it will not
LONGEST_RETRY_S: Final = 10.0
LAST_PASS_S: Final = 10.0  # what the loop's last pass gets, after the workers had their time

log = structlog.get_logger(__name__)


def run_service(settings: Settings, *, resume: bool = True) -> int:
    """Run until a signal says stop, and return the exit code.

    Without `resume`, bots that their errors had stopped are started again with the others.
    """
    stop = threading.Event()
    with ExitStack() as held:
        logs = held.enter_context(set_up_logs(settings.service.log_format))
        held.enter_context(_signals(stop))
        clock = SystemClock()
        run = _name_of_run(clock)
        # All its sessions, its workers' too, carry the run's name: who takes over ends them by it.
        named = settings.database.model_copy(update={"url": session_named(settings.database.url, run)})
        settings = settings.model_copy(update={"database": named})
        database = open_database(settings.database.url)
        held.callback(database.close)
        try:
            if database.dialect == "sqlite":
                file = Path(make_url(settings.database.url).database or "")
                held.enter_context(only_service(file))
                _expect_whole(file)
            if not _prepare(database, stop):
                return STOPPED
        except (NoLock, schema.SchemaTooNew, DatabaseMoved, Damaged) as exc:
            log.error("refused to start", why=str(exc))  # noqa: TRY400 -- the reason is the message
            return REFUSED
        return Service(database, settings, clock, name=run, logs=logs).run(stop, resume=resume)


class Service:
    """The parts of one running service, and the order in which they start and stop."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Clock,
        *,
        command: tuple[str, ...] = COMMAND,
        name: str | None = None,
        logs: LogWriter | None = None,
    ) -> None:
        started = clock.now_ms()
        user_id = settings.service.user_id
        self.this_run = runs.Run(
            name or _name_of_run(clock),
            socket.gethostname(),
            os.getpid(),
            user_id,
            "starting",
            started,
            started,
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
        self.pulse = Pulse("main", fatal_s=2 * LOOP_FRESH_S)
        self._main_hung_at: float | None = None  # the loop's: since when main has been seen to hang
        self.scheduler.pulses += (self.listener.pulse, self.pulse)
        self.scheduler.came_round = self._look_at_main
        if logs is not None:
            self.scheduler.log_fault = logs.said

    def run(self, stop: threading.Event, *, resume: bool = True) -> int:
        """Serve until `stop` is set."""
        self.crew.start()
        _patiently(stop, lambda: self._begin(resume=resume))
        self.leadership.start()
        self.listener.start()
        loop = threading.Thread(target=self.scheduler.start, name="loop", daemon=True)
        loop.start()
        self.scheduler.pulse.begin(loop)
        code = self._watch_over(stop)
        self._stop(loop, clean=code == STOPPED)
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

    def _watch_over(self, stop: threading.Event) -> int:
        """Look at every thread's pulse and feed the watchdog, until it is time to stop."""
        glanced = time.monotonic()
        patient_until = said = 0.0
        every = watchdog_s()
        ready = False
        self.pulse.begin(threading.current_thread())
        while not stop.wait(GLANCE_S):
            now = time.monotonic()
            self.pulse.beat()
            if now - glanced > LONGEST_GLANCE_S:
                # All threads were stopped with this one: let them beat first.
                patient_until = now + STILL_S
            glanced = now
            health = self.scheduler.health()
            if not ready and self.scheduler.first_pass.is_set():
                ready = notify(READY) or True
            # Ended from inside: systemd's watchdog would need a minute, and elsewhere there is none.
            if not health.lives and now >= patient_until:
                log.critical("this process cannot go on, it ends to be started again", reasons=health.reasons)
                return HUNG
            if lost := self.database.moved():
                # Started again it would make a new file, or go on with what somebody is about to put there.
                log.critical("stopping: the database is not the one that was opened", why=lost, mend=MOVED)
                return REFUSED
            if every is not None and now - said >= every:
                said = now
                notify(_word_to_systemd(health))
        self.pulse.end()
        return STOPPED

    def _look_at_main(self) -> None:
        """End the process for the thread that would end it for any other. Called by the loop."""
        main = self.pulse.seen()
        now = time.monotonic()
        if main.fatal_s is None or main.age_s <= main.fatal_s:
            self._main_hung_at = None
        elif self._main_hung_at is None:
            self._main_hung_at = now  # all threads were stopped, perhaps: it has some s to beat again
        elif now - self._main_hung_at > LONGEST_GLANCE_S:
            log.critical("the main thread stands still, this process ends to be started again")
            time.sleep(GLANCE_S)  # the log's thread writes that line
            os._exit(HUNG)

    def _stop(self, loop: threading.Thread, *, clean: bool) -> None:
        """No new steps; those under way may finish; then say how it ended, and let a standby lead."""
        notify(STOPPING)
        log.info("stopping")
        leads = self.leadership.fence() is not None  # a standby has no say in the statuses of bots
        self.scheduler.shutdown()
        self.listener.stop()
        finished = self.crew.stop(self.settings.service.stop_timeout_s if clean else HUNG_STOP_S)
        # Its last pass may still write `running`: what the statuses are said to be afterwards has to be last.
        loop.join(LAST_PASS_S if clean else HUNG_STOP_S)
        if loop.is_alive():
            log.warning("the loop's last pass did not end: statuses of bots are left to the next service")
        fence = self.leadership.fence()
        try:
            if leads and fence is not None and not loop.is_alive():
                self._say_stopped(fence)
            with self.database.write() as connection:
                now = self.clock.now_ms()
                runs.end_run(connection, self.this_run.run, now_ms=now, clean=clean and finished)
        except DatabaseUnavailable as exc:
            log.warning("the end was not written down", why=str(exc))
        self.leadership.stop()
        log.info("stopped", clean=clean and finished)

    def _say_stopped(self, fence: Fence) -> None:
        """Write that the bots do not run any more, unless another service leads them already."""
        jobs = list(self.scheduler.reconciliation.jobs)
        try:
            with self.database.write(fence) as connection:
                now = self.clock.now_ms()
                bots.move_all(connection, jobs, "stopped", now_ms=now, reason="the service was stopped")
        except LeaseLost as exc:
            log.info("statuses of bots are left to another service", why=str(exc))


def _name_of_run(clock: Clock) -> str:
    """Return a name that no other run has: host, process and moment."""
    return f"{socket.gethostname()}-{os.getpid()}-{clock.now_ms()}"


class Damaged(Exception):
    """The database's file cannot be worked with."""


def _expect_whole(file: Path) -> None:
    """Raise Damaged for a file that SQLite finds damaged: every bar that is committed to it may be lost."""
    try:
        found = damage(file)
    except sqlite3.Error as exc:
        if not is_damage(exc):
            return  # locked or not readable now: `_prepare` waits for it
        found = str(exc)
    if found:
        raise Damaged(f"{file} is damaged: {found}; {RESTORE}")


def _word_to_systemd(health: Health) -> str:
    """Feed the watchdog while every vital thread comes round; say what is wrong in any case."""
    status = f"STATUS={'; '.join(health.reasons) or 'all is well'}"
    return f"{ALIVE}\n{status}" if health.moves else status


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
        except DatabaseMoved:
            raise
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
