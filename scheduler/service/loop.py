"""The loop: APScheduler with passes that may fail and a thread that may not.

Stock APScheduler ends its thread at the first database error outside `get_due_jobs` and goes on saying that
it runs; it hands jobs over before it has moved them on, and keeps two locks for all of it. Here its thread
calls passes of ours. A pass may raise wherever it likes: it is logged, backed off and begun anew.

That is safe because a pass owns nothing. What it decides is written by transactions that stand for
themselves, and what it knows is read again: rows, cursors, the lease. So a pass that ended in the middle has
done some of its parts and not the others, and the next one does them all. The parts, in the order of a pass:

| part | why here | it fails, or the process dies in it |
|---|---|---|
| clock | a claim under a wrong clock would move rows into a wrong future | healed by "restore"; not told |
| lease | nothing below may be done by a service that does not lead | asked again; a standby takes over |
| charges | one may stop a bot, which the reconciliation has to see | kept; after a death the bot hangs anew |
| reconcile | a bot that was paused must not be claimed any more | see `reconcile.py` |
| claim | moves rows, then hands over what it moved (`jobstore.py`) | healed by "late bots" |
| late bots | sees what all of the above has missed, for whatever reason | looked at again in 5 s |
| status | tells of this pass | told by the next one |

Two parts are nets under the others. "Restore" (every 10 s) rewrites rows of the jobs table that are not what
the last reconciliation wrote, such as fires that lie too far ahead after the clock was set back.
"Late bots" compares cursors with the calendar and asks nobody's thread (`lateness.py`).

The loop never sleeps for more than a second, so a step of the clock or an edit is not slept through; a pass
that waits for the database is ended by its time-outs. The time of its last round, successful or not, is the
heartbeat that health and the watchdog look at: a lost database leaves the heart beating, a hung loop does
not. The database has a heartbeat of its own.
"""

import itertools
import json
import threading
import time
from datetime import UTC
from typing import Any, Final

import structlog
from apscheduler.schedulers.base import STATE_STOPPED
from apscheduler.schedulers.blocking import BlockingScheduler

from jobs.bar.charges import charge
from jobs.bar.failures import Failure, FailureKind
from jobs.clock import Clock
from jobs.settings import Settings
from ops.health import Health
from persistence import bots, notifications, runs
from persistence.database import Database
from persistence.database_errors import DatabaseUnavailable
from persistence.leases import Fence
from persistence.notifications import Notification
from scheduler.crew.alarm import Alarm
from scheduler.crew.crew import Crew
from scheduler.crew.verdicts import Charge
from scheduler.service import recovery
from scheduler.service.clock_watch import ClockStep, ClockWatch
from scheduler.service.jobstore import BotJobStore
from scheduler.service.lateness import SHORTEST_GRACE_MS, Lateness, late_bots
from scheduler.service.leadership import Leadership
from scheduler.service.reconcile import Reconciliation
from scheduler.service.rhythm import Rhythm

LONGEST_WAIT_S: Final = 1.0  # between two passes
LONGEST_BACKOFF_S: Final = 5.0  # after passes that failed
STATUS_S: Final = 2.0  # the row of this run, which others believe for 10 s
RESTORE_S: Final = 10.0
SWEEP_S: Final = 5.0

log = structlog.get_logger(__name__)


class BotScheduler(BlockingScheduler):  # type: ignore[misc]  # APScheduler has no types
    """APScheduler over `BotJobStore`, with a supervised loop of our own passes."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        crew: Crew,
        leadership: Leadership,
        run: runs.Run,
        clock: Clock,
    ) -> None:
        super().__init__(timezone=UTC)
        self._event = threading.Event()  # others may call wakeup() before start() would make one
        # Its executors stay empty: due jobs go to the crew by the hundred, and not one by one.
        self.store = BotJobStore(database, user_id=settings.service.user_id)
        self.add_jobstore(self.store)
        # For other threads.
        self.edited = threading.Event()  # set by the listener: rows of bots have changed
        self.first_pass = threading.Event()  # set once, after the first pass that succeeded
        self.clock_watch = ClockWatch(clock)  # they read `held`
        self.reconciliation = Reconciliation(database, self.store, settings, clock)  # they read `jobs`
        # What never changes. `crew` and `leadership` may be spoken to by any thread.
        self._database = database
        self._settings = settings
        self._crew = crew
        self._leadership = leadership
        self._run = run
        self._clock = clock
        # The loop's own. Health reads the fence and the two heartbeats, which are replaced as a whole.
        self._fence: Fence | None = None  # under which epoch this loop leads; None while it does not
        self._came_round = self._database_said = time.monotonic()
        deadline_ms = int(settings.workers.step_deadline_s * 1000)
        self._lateness = Lateness(max(SHORTEST_GRACE_MS, deadline_ms // 2))
        self._polls = Rhythm(settings.service.poll_interval_s)
        self._restores = Rhythm(RESTORE_S)
        self._sweeps = Rhythm(SWEEP_S)
        self._tells = Rhythm(STATUS_S)
        self._numbers = itertools.count(1)  # of steps of the clock: every one is an alert of its own
        self._unreadable: frozenset[str] = frozenset()  # rows that were reported, so that they are once

    # Spoken to by other threads.

    def health(self) -> Health:
        now = time.monotonic()
        state = self._crew.state()
        return Health(
            loop_age_s=round(now - self._came_round, 1),
            database_age_s=round(now - self._database_said, 1),
            leads=self._fence is not None,
            clock_held=self.clock_watch.held,
            crew_alive=self._crew.alive(),
            lease_alive=self._leadership.alive(),
            waits_s=state.waits_s,
        )

    def shutdown(self, wait: bool = False) -> None:
        """End the loop after its present pass. Takes no lock: a job may be waiting for one."""
        del wait
        self.state = STATE_STOPPED
        self.wakeup()

    # The loop's own thread.

    def _main_loop(self) -> None:
        backoff_s = 0.0
        while self.state != STATE_STOPPED:
            try:
                wait_s = self._process_jobs()
                self.first_pass.set()
                backoff_s = 0.0
            except Exception as exc:  # the loop outlives whatever a pass raises; the next one begins anew
                backoff_s = wait_s = min(LONGEST_BACKOFF_S, backoff_s * 2 or 0.25)
                if isinstance(exc, DatabaseUnavailable):
                    log.warning("database lost, trying again", why=str(exc), in_s=wait_s)
                else:
                    log.exception("pass failed, trying again", in_s=wait_s)
            self._came_round = time.monotonic()
            self._event.wait(wait_s)
            self._event.clear()

    def _process_jobs(self) -> float:
        """Do one pass and return the s until the next."""
        now = time.monotonic()
        self._watch_clock()
        self._follow_lease()
        if self._fence is None or self.clock_watch.held:
            # Standing by: rows are read ahead, so that a takeover has little to read.
            if self._polls.due(now):
                self.reconciliation.warm()
            self._tell(now)
            return LONGEST_WAIT_S
        self._write_charges()
        self._reconcile(now)
        next_ms = self._fire_due()
        if self._sweeps.due(now):
            self._sweep()
        self._tell(now)
        self._database_said = time.monotonic()
        if next_ms is None:
            return LONGEST_WAIT_S
        return min(LONGEST_WAIT_S, max(0.0, (next_ms - self._clock.now_ms()) / 1000))

    def _watch_clock(self) -> None:
        step = self.clock_watch.look()
        if step is None:
            return
        held = self.clock_watch.held
        log.error("clock stepped", step=str(step), believed=not held)
        self._crew.lead(self._fence, leads=self._fence is not None and not held)
        if self._fence is not None:
            self._after_step(step, held=held)

    def _after_step(self, step: ClockStep, *, held: bool) -> None:
        """Tell the owner, compute every fire anew and let every bot do what its cursor owes."""
        done = "nothing runs until it is set right or the service restarted" if held else "schedule renewed"
        body = f"{step}; {done}"
        note = Notification(
            f"service:{self._run.run}:clock:{next(self._numbers)}",
            None,
            None,
            "service",
            "Clock stepped",
            body,
        )
        with self._database.write() as connection:
            notifications.enqueue(connection, (note,), now_ms=self._clock.now_ms())
        if not held:
            self.reconciliation.restore()
            self._crew.fire(self.reconciliation.alarms())

    def _follow_lease(self) -> None:
        if self._crew.lease_lost.is_set():
            # Cleared before the doubt: a worker that is refused in between is not overlooked.
            self._crew.lease_lost.clear()
            self._leadership.doubt()
        fence = self._leadership.fence()
        if fence == self._fence:
            return
        self._tells.at_once()
        if fence is None:
            log.warning("not leading any more")
            self._fence = None
            self._crew.lead(None, leads=False)
            return
        self._begin_to_lead(fence)

    def _begin_to_lead(self, fence: Fence) -> None:
        """Take stock, then let every bot catch up from its cursor.

        `_fence` is set last: if anything before fails, the next pass begins to lead from the start.
        """
        self.reconciliation.begin()
        self.reconciliation.run()
        now = self._clock.now_ms()
        user_id = self._settings.service.user_id
        found = recovery.take_stock(self._database, self.reconciliation.jobs, self._run.run, now, user_id)
        log.info("recovery", report=str(found), epoch=fence.epoch)
        recovery.report(self._database, found, f"{self._run.run}:{fence.epoch}", now)
        self._crew.keep(self.reconciliation.jobs)
        self._crew.lead(fence, leads=not self.clock_watch.held)
        self._crew.fire(self.reconciliation.alarms())
        # Until the bots have had the time to catch up, all of them are late.
        self._sweeps.after(time.monotonic() + self._lateness.grace_ms / 1000)
        self._fence = fence

    def _write_charges(self) -> None:
        while not self._crew.charges.empty():
            found = self._crew.charges.get()
            try:
                self._charge(found)
            except DatabaseUnavailable:
                self._crew.charges.put(found)  # its bot is held back until the charge is written
                raise

    def _charge(self, found: Charge) -> None:
        with self._database.read() as connection:
            bot = bots.get_bot(connection, found.bot_id)
        retry_at = None
        if bot is not None:
            failure = Failure(FailureKind.STRATEGY, found.message)
            charged = charge([(bot, failure)], self._database, self._settings.service, self._clock.now_ms())
            retry_at = charged[bot.id].retry_at_ms
        row = self.reconciliation.jobs.get(found.bot_id)
        self._crew.let_go(found.bot_id, row.group if row else "", retry_at)

    def _reconcile(self, now: float) -> None:
        if self.edited.is_set():
            self.edited.clear()
            self._polls.at_once()
        if self._polls.due(now):
            changes = self.reconciliation.run()
            if changes.begun:
                alarms = self.reconciliation.alarms()
                self._crew.fire(alarm for alarm in alarms if alarm.bot_id in changes.begun)
            if changes.ended:
                self._crew.keep(self.reconciliation.jobs)
            if changes.begun or changes.ended:
                log.info("schedule", begun=len(changes.begun), ended=len(changes.ended))
        if self._restores.due(now):
            restored = self.reconciliation.restore()
            if restored:
                log.warning("jobs restored from the bots", count=restored)

    def _fire_due(self) -> int | None:
        claim = self.store.claim_due(self._clock.now_ms())
        self._crew.fire(claim.alarms)
        news = frozenset(claim.unreadable) - self._unreadable
        for problem in sorted(news):
            log.error("job that cannot be read was kept", job=problem)
        self._unreadable = frozenset(claim.unreadable)
        return claim.next_ms

    def _sweep(self) -> None:
        """Fire late bots again; charge those whom that does not help."""
        now = self._clock.now_ms()
        with self._database.read() as connection:
            cursors = bots.cursors(connection, self._settings.service.user_id)
        jobs = self.reconciliation.jobs
        late = late_bots(jobs, cursors, now, self._lateness.grace_ms)
        again, guilty = self._lateness.judge(
            late, cursors, self._crew.busy_with, self._crew.last_outcome, now
        )
        self._crew.fire(Alarm(bot_id, jobs[bot_id].group, now) for bot_id in again)
        for bot_id in guilty:
            log.error("bot does not respond", bot=bot_id)
            self._charge(
                Charge(bot_id, "unresponsive: its due bar was not committed, however often it was fired")
            )

    def _tell(self, now: float) -> None:
        """Write the status row."""
        if not self._tells.due(now):
            return
        role = "leader" if self._fence is not None else "standby"
        details = json.dumps(self._details())
        with self._database.write() as connection:
            runs.beat_run(connection, self._run.run, now_ms=self._clock.now_ms(), role=role, details=details)
        self._database_said = time.monotonic()

    def _details(self) -> dict[str, Any]:
        state = self._crew.state()
        return {
            "bots": len(self.reconciliation.jobs),
            "reasons": list(self.health().reasons),
            "epoch": None if self._fence is None else self._fence.epoch,
            "workers": {
                "count": state.workers,
                "ready": state.ready,
                "busy": state.busy,
                "pids": list(state.pids),
            },
            "waiting": state.waiting,
            "running": state.running,
            "waits_s": state.waits_s,
            "bars": state.bars,
            "failures": state.failures,
            "replaced": state.replaced,
        }
