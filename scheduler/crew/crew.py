"""The crew: worker processes, work handed out in batches, hung and dead workers replaced.

**One thread owns everything.** Workers, backlog, clocks of retries and counters are touched by the crew's
own thread only; others put a word into its inbox (`fire`, `lead`, `keep`, `let_go`, `stop`) and do not wait
for an answer, but for `stop`, which waits for the end, with a limit. So there is no lock here, and no order
of two calls of other threads that could be wrong.
What others read is either a frozen value that is replaced as a whole (`state`) or looked up in dicts
(`busy_with`, `last_outcome`), and may be a tick old.

**It touches no database**, so it goes on supervising while the database is frozen, which is when a
supervisor is needed. What has to be written into a bot's row is put into `charges`; the loop writes
it and says `let_go`. Until then the bot is held back: handed out before its charge is written, a bot that
kills its worker would do so again at once, uncounted, for ever.

True between any two turns of the thread:
- a bot is in at most one batch, so in at most one worker (`backlog.py` sees to it);
- every batch that was taken is in the hands of exactly one worker that lives, or was given back;
- a worker that says something is believed only under its serial number: the last words of one that was
  replaced are not those of its successor.

A turn is: hear, supervise, wake what waited for its retry, hand out. Hearing comes first, so that an answer
that has come already is not taken for silence; handing out comes last, so that it sees what the others freed.

An exception that nobody expected ends the thread. Nothing catches it here, because nobody could say what is
still true then: the daemon sees that the crew is not alive and ends the process, which is started again.

Who is charged when a worker goes (`verdicts.py` judges, `_take_back` acts):

| a worker ... | its bot (known from the shared bytes) | the others of its batch |
|---|---|---|
| hangs, dies or outgrows its memory in a step | charged, runs alone until it ends well | run again at once |
| dies or hangs between bots | sought by halves; charged once it is alone in one | run again, by halves |
| is stopped (SIGSTOP) between bots | nobody is charged | run again at once |
| loses the database or the lease | nobody is charged | run again when there is one |

| the process dies ... | the next run sees |
|---|---|
| with work in its backlog | the same bots due: what was not committed is behind its cursor |
| with workers at work | workers end with their parent; their transactions roll back |
| with charges that are not written | the same bots hang again, and are charged then |
"""

import heapq
import os
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from jobs.bar.firing import Outcome
from jobs.clock import Clock
from jobs.settings import Settings
from persistence.leases import Fence
from scheduler.crew.alarm import Alarm
from scheduler.crew.backlog import Backlog, Batch
from scheduler.crew.child import read_outcome
from scheduler.crew.handle import COMMAND, Said, WorkerHandle
from scheduler.crew.verdicts import LONGEST_SILENCE_S, Charge, Verdict, verdict_on

TICK_S: Final = 0.1  # how long the inbox is waited for: the pace at which workers are looked at
LONGEST_GAP_S: Final = 2.0  # between two looks; a longer one means that this process itself was stopped
LONGEST_START_S: Final = 120.0
LONGEST_PAUSE_S: Final = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CrewState:
    """A moment of the crew, for health and status. `waits_s` is how long the oldest bot has waited."""

    workers: int
    ready: int
    busy: int
    waiting: int
    running: int
    waits_s: float
    bars: int
    failures: int
    replaced: int
    pids: tuple[int, ...]


class Crew:
    def __init__(self, settings: Settings, clock: Clock, *, command: Sequence[str] = COMMAND) -> None:
        count = settings.workers.count or os.cpu_count() or 1
        # For other threads: both of these are safe to use from any.
        self.charges: queue.SimpleQueue[Charge] = queue.SimpleQueue()
        self.lease_lost = threading.Event()  # a worker was refused by the epoch; the loop asks the lease
        self.submitted = 0  # bots handed out so far, for benchmarks
        # What never changes.
        self._limits = settings.workers
        self._settings = settings.model_dump(mode="json")  # a worker's first line
        self._clock = clock
        self._command = command
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()  # words of other threads and of workers
        # The crew's own thread's, all of it.
        self._backlog = Backlog(count, settings.workers.batch, settings.workers.per_exchange)
        self._workers: list[WorkerHandle | None] = [None] * count  # by number; None while there is none
        self._reborn_at = [0.0] * count  # by number: when a missing worker may be started (monotonic s)
        self._deaths = [0] * count  # by number: since it was last ready, for the back-off
        self._serial = 0  # of the worker that was started last
        self._later: list[tuple[float, int, str]] = []  # heap of retries: when (monotonic s), bot, group
        self._fence: Fence | None = None  # what batches are run under
        self._leads = False  # nothing is handed out while this service does not lead
        self._pause_s = 0.0  # how long the last pause was that a lost batch asked for
        self._paused_until = 0.0
        self._supervised = time.monotonic()
        self._lenient_until = 0.0  # nobody is judged before: this process has just been woken up
        self._bars = self._failures = self._replaced = 0  # since the start
        self._last_outcome: dict[int, Outcome] = {}  # by bot id; the loop looks things up in it
        self._draining = False  # no new work, because the service stops
        self._over = threading.Event()  # all work that was under way when draining began has ended
        self._state = self._seen()
        self._thread = threading.Thread(target=self._live, name="crew", daemon=True)

    # Spoken to by other threads.

    def start(self) -> None:
        self._thread.start()

    def lead(self, fence: Fence | None, *, leads: bool) -> None:
        """Hand work out under `fence`, or stop handing work out."""
        self._inbox.put(("lead", fence, leads))

    def fire(self, alarms: Iterable[Alarm]) -> None:
        self._inbox.put(("fire", [(alarm.bot_id, alarm.group) for alarm in alarms]))

    def let_go(self, bot_id: int, group: str, retry_at_ms: int | None) -> None:
        """Say that a bot's charge is written; fire it again at `retry_at_ms`."""
        self._inbox.put(("let_go", bot_id, group, retry_at_ms))

    def keep(self, bot_ids: Iterable[int]) -> None:
        """Drop waiting bots other than these."""
        self._inbox.put(("keep", frozenset(bot_ids)))

    def busy_with(self, bot_id: int) -> bool:
        return self._backlog.has(bot_id)

    def last_outcome(self, bot_id: int) -> Outcome | None:
        return self._last_outcome.get(bot_id)

    def alive(self) -> bool:
        return self._thread.is_alive()

    def state(self) -> CrewState:
        return self._state

    def stop(self, timeout_s: float) -> bool:
        """End all workers: what is under way may finish within `timeout_s`. Return whether all of it did."""
        self._inbox.put(("drain",))
        finished = self._over.wait(timeout_s)
        self._inbox.put(("quit",))
        self._thread.join(timeout_s + 10.0)
        return finished

    # The crew's own thread.

    def _live(self) -> None:
        quitting = False
        while not quitting:
            quitting = self._listen()
            now = time.monotonic()
            self._supervise(now)
            self._wake(now)
            if not self._draining:
                self._hand_out(now)
            self._state = self._seen()
            if self._draining and self._state.busy == 0:
                self._over.set()
        self._end()

    def _seen(self) -> CrewState:
        workers = [worker for worker in self._workers if worker is not None]
        oldest = self._backlog.oldest()
        return CrewState(
            workers=len(self._workers),
            ready=sum(worker.ready for worker in workers),
            busy=sum(worker.batch is not None for worker in workers),
            waiting=self._backlog.waiting,
            running=self._backlog.running,
            waits_s=0.0 if oldest is None else round(time.monotonic() - oldest, 3),
            bars=self._bars,
            failures=self._failures,
            replaced=self._replaced,
            pids=tuple(worker.pid for worker in workers),
        )

    def _listen(self) -> bool:
        """Take in everything that was said, waiting up to a tick for the first of it."""
        try:
            said = self._inbox.get(timeout=TICK_S)
            while True:
                if said == ("quit",):
                    return True
                self._hear(said)
                said = self._inbox.get_nowait()
        except queue.Empty:
            return False

    def _hear(self, said: Any) -> None:
        match said:
            case Said():
                worker = self._workers[said.number]
                if worker is not None and worker.serial == said.serial:
                    self._answer(worker, said.message)
            case ("fire", bots):
                self._backlog.add(bots, time.monotonic())
            case ("lead", fence, leads):
                self._fence, self._leads = fence, leads
                self._paused_until = 0.0
            case ("let_go", bot_id, group, retry_at_ms):
                self._backlog.let_go(bot_id)
                self._fire_at(bot_id, group, retry_at_ms)
            case ("keep", bot_ids):
                self._backlog.forget(bot_ids)
            case ("drain",):
                self._draining = True

    def _answer(self, worker: WorkerHandle, message: dict[str, Any] | None) -> None:
        if message is None:
            self._bury(worker, Verdict(f"worker died with exit code {worker.exit_code}"))
        elif "ready" in message:
            worker.ready = True
            self._deaths[worker.number] = 0
        elif worker.batch is not None:
            batch, worker.batch = worker.batch, None
            if "done" in message:
                self._done(batch, [read_outcome(written) for written in message["done"]])
            else:
                self._lost(batch, message)

    def _done(self, batch: Batch, outcomes: list[Outcome]) -> None:
        now = time.monotonic()
        self._pause_s = 0.0
        self._backlog.trust([outcome.bot_id for outcome in outcomes if outcome.failure is None])
        self._backlog.finish(batch, now)
        self._backlog.add([(outcome.bot_id, batch.group) for outcome in outcomes if outcome.behind], now)
        for outcome in outcomes:
            self._last_outcome[outcome.bot_id] = outcome
            self._bars += outcome.bars
            if outcome.failure is not None:
                self._failures += 1
                log.warning(
                    "bot failed", bot=outcome.bot_id, kind=outcome.failure.kind, why=outcome.failure.message
                )
            self._fire_at(outcome.bot_id, batch.group, outcome.retry_at_ms)

    def _lost(self, batch: Batch, message: dict[str, Any]) -> None:
        """Queue a batch again that nobody is to blame for, and pause, longer after every loss in a row."""
        log.warning("batch lost", what=message["lost"], why=message["message"], bots=len(batch.bot_ids))
        self._requeue(batch, batch.bot_ids)
        if message["lost"] == "lease":
            self._leads = False  # until the loop has asked the lease and says `lead` again
            self.lease_lost.set()
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2 or 0.25)
        self._paused_until = time.monotonic() + self._pause_s

    def _requeue(self, batch: Batch, bot_ids: Iterable[int]) -> None:
        now = time.monotonic()
        self._backlog.finish(batch, now)
        self._backlog.add(((bot_id, batch.group) for bot_id in bot_ids), now)

    def _bury(self, worker: WorkerHandle, verdict: Verdict) -> None:
        """Replace a worker that ended or has to end, and see to what it was doing."""
        number, batch, guilty = worker.number, worker.batch, verdict.guilty
        if guilty is None and batch is not None and not verdict.innocent:
            guilty = worker.guilty()[0]  # the shared bytes outlive the process
        worker.kill()
        worker.close()
        self._workers[number] = None
        self._replaced += 1
        self._deaths[number] += 1
        # The first death costs no time. A worker that cannot even start must not be started all the time.
        delay = 0.0 if self._deaths[number] == 1 else min(LONGEST_PAUSE_S, 0.25 * 2 ** self._deaths[number])
        self._reborn_at[number] = time.monotonic() + delay
        log.warning("worker replaced", worker=number, pid=worker.pid, why=verdict.why, bot=guilty)
        if batch is not None:
            self._take_back(batch, guilty, verdict)

    def _take_back(self, batch: Batch, guilty: int | None, verdict: Verdict) -> None:
        """Queue again what a lost worker had, and charge the bot that is known to have done it."""
        if verdict.innocent:
            self._requeue(batch, batch.bot_ids)
            return
        if guilty is None and len(batch.bot_ids) == 1 and batch.sealed:
            guilty = batch.bot_ids[0]  # the last half of halves
        if guilty is None:
            self._backlog.finish(batch, time.monotonic())
            self._backlog.halve(batch)
            return
        # Held before the others are queued: `finish` would let it wait again if it was fired meanwhile.
        self._backlog.hold(guilty)
        self._requeue(batch, [bot_id for bot_id in batch.bot_ids if bot_id != guilty])
        self.charges.put(Charge(guilty, verdict.why))

    def _supervise(self, now: float) -> None:
        """Start the workers that are missing, and end those that a verdict says have to go."""
        # After a stop of the whole machine or service the others need a moment to show that they live.
        if now - self._supervised > LONGEST_GAP_S:
            self._lenient_until = now + LONGEST_SILENCE_S
        self._supervised = now
        for number, worker in enumerate(self._workers):
            if worker is None:
                if now >= self._reborn_at[number] and not self._draining:
                    self._serial += 1
                    self._workers[number] = WorkerHandle(
                        number, self._serial, self._settings, self._inbox, self._command
                    )
            elif not worker.ready:
                if now - worker.since > LONGEST_START_S:
                    self._bury(worker, Verdict(f"worker did not start within {LONGEST_START_S} s"))
            elif now >= self._lenient_until and (verdict := verdict_on(worker, self._limits)) is not None:
                self._bury(worker, verdict)

    def _hand_out(self, now: float) -> None:
        if not self._leads or now < self._paused_until:
            return
        fence = None if self._fence is None else (self._fence.name, self._fence.epoch)
        for worker in self._workers:
            if worker is not None and worker.ready and worker.batch is None:
                batch = self._backlog.take(worker.number, now)
                if batch is not None:
                    worker.run(batch, fence)
                    self.submitted += len(batch.bot_ids)

    def _fire_at(self, bot_id: int, group: str, at_ms: int | None) -> None:
        """Fire a bot at a moment of the wall clock, which a later step of that clock no longer moves."""
        if at_ms is None:
            return
        delay = max(0, at_ms - self._clock.now_ms()) / 1000
        heapq.heappush(self._later, (time.monotonic() + delay, bot_id, group))

    def _wake(self, now: float) -> None:
        due = []
        while self._later and self._later[0][0] <= now:
            _, bot_id, group = heapq.heappop(self._later)
            due.append((bot_id, group))
        self._backlog.add(due, now)

    def _end(self) -> None:
        """End all workers: idle ones on their own feet, the others where they stand; they roll back."""
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            if worker.batch is None and worker.ready:
                worker.stop()
            else:
                worker.kill()
        for worker in workers:
            worker.close()
