"""The worker processes: work handed out in batches, hung and dead ones replaced, guilty bots named.

One thread owns everything here; others speak to it through `fire`, `let_go` and `lead`. It touches no
database, so it goes on supervising while the database is frozen: charges wait in `charges` until the
loop has written them, and their bots are held back as long.

| a worker ... | its bot (known from the shared bytes) | the others of its batch |
|---|---|---|
| hangs, dies or outgrows its memory in a step | charged, runs alone until it ends well | run again at once |
| dies or hangs between bots | nobody is charged | run again in halves, until the guilty one is alone |
| is stopped (SIGSTOP) between bots | nobody is charged | run again at once |
| loses the database or the lease | nobody is charged | run again when there is one |

The process can die on any line: what was not committed is behind its cursor, and due again.
"""

import heapq
import os
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import structlog

from jobs.bar.firing import Outcome
from jobs.clock import Clock
from jobs.settings import Settings
from persistence.leases import Fence
from scheduler.crew.alarm import Alarm
from scheduler.crew.backlog import Backlog, Batch
from scheduler.crew.child import read_outcome
from scheduler.crew.crew_state import Charge, CrewState
from scheduler.crew.handle import COMMAND, Said, Worker

TICK_S: Final = 0.1
LONGEST_GAP_S: Final = 2.0
LONGEST_START_S: Final = 120.0
LONGEST_BETWEEN_S: Final = 90.0  # reading, fetching and committing have deadlines of their own below this
LONGEST_SILENCE_S: Final = 10.0  # a worker that is not stopped beats twice a second
LONGEST_PAUSE_S: Final = 5.0
MEGABYTE: Final = 1 << 20

log = structlog.get_logger(__name__)


class Crew:
    def __init__(self, settings: Settings, clock: Clock, *, command: Sequence[str] = COMMAND) -> None:
        count = settings.workers.count or os.cpu_count() or 1
        self.limits = settings.workers
        self.charges: queue.SimpleQueue[Charge] = queue.SimpleQueue()
        self.lease_lost = threading.Event()
        self.submitted = 0
        self._settings = settings.model_dump(mode="json")
        self._clock = clock
        self._command = command
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._backlog = Backlog(count, settings.workers.batch, settings.workers.per_exchange)
        self._workers: list[Worker | None] = [None] * count
        self._reborn_at = [0.0] * count
        self._deaths = [0] * count
        self._later: list[tuple[float, int, str]] = []
        self._fence: Fence | None = None
        self._leads = False
        self._pause_s = 0.0
        self._paused_until = 0.0
        self._supervised = time.monotonic()
        self._lenient_until = 0.0
        self._serial = 0
        self._bars = self._failures = self._replaced = 0
        self._last_outcome: dict[int, Outcome] = {}
        self._draining = False
        self._over = threading.Event()
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
            if self._draining and not any(
                worker is not None and worker.batch is not None for worker in self._workers
            ):
                self._over.set()
        self._end()

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

    def _answer(self, worker: Worker, message: dict[str, Any] | None) -> None:
        if message is None:
            self._bury(worker, f"worker died with exit code {worker.exit_code}")
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
        self._backlog.trust([each.bot_id for each in outcomes if each.failure is None])
        self._backlog.finish(batch, now)
        self._bars += sum(each.bars for each in outcomes)
        self._backlog.add([(each.bot_id, batch.group) for each in outcomes if each.behind], now)
        for each in outcomes:
            self._last_outcome[each.bot_id] = each
            if each.failure is not None:
                self._failures += 1
                log.warning("bot failed", bot=each.bot_id, kind=each.failure.kind, why=each.failure.message)
            self._fire_at(each.bot_id, batch.group, each.retry_at_ms)

    def _lost(self, batch: Batch, message: dict[str, Any]) -> None:
        """Queue the batch again and wait a little, longer each time, before the next is handed out."""
        log.warning("batch lost", what=message["lost"], why=message["message"], bots=len(batch.bot_ids))
        now = time.monotonic()
        self._requeue(batch, batch.bot_ids)
        if message["lost"] == "lease":
            self._leads = False
            self.lease_lost.set()
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2 or 0.25)
        self._paused_until = now + self._pause_s

    def _requeue(self, batch: Batch, bot_ids: Iterable[int]) -> None:
        now = time.monotonic()
        self._backlog.finish(batch, now)
        self._backlog.add(((bot_id, batch.group) for bot_id in bot_ids), now)

    def _bury(self, worker: Worker, why: str, guilty: int | None = None, *, innocent: bool = False) -> None:
        """Replace a worker that ended or was ended, and see to what it was doing."""
        number = worker.number
        if guilty is None and worker.batch is not None and not innocent:
            guilty = worker.guilty()[0]
        worker.kill()
        worker.close()
        self._workers[number] = None
        self._replaced += 1
        self._deaths[number] += 1
        delay = 0.0 if self._deaths[number] == 1 else min(LONGEST_PAUSE_S, 0.25 * 2 ** self._deaths[number])
        self._reborn_at[number] = time.monotonic() + delay
        log.warning("worker replaced", worker=number, pid=worker.pid, why=why, bot=guilty)
        if worker.batch is not None:
            self._judge(worker.batch, why, guilty, innocent=innocent)

    def _judge(self, batch: Batch, why: str, guilty: int | None, *, innocent: bool) -> None:
        if innocent:
            self._requeue(batch, batch.bot_ids)
            return
        if guilty is None and len(batch.bot_ids) == 1 and batch.sealed:
            guilty = batch.bot_ids[0]
        if guilty is None:
            self._backlog.finish(batch, time.monotonic())
            self._backlog.halve(batch)
            return
        self._backlog.hold(guilty)
        self._requeue(batch, [bot_id for bot_id in batch.bot_ids if bot_id != guilty])
        self.charges.put(Charge(guilty, why))

    def _supervise(self, now: float) -> None:
        # After a stop of the whole machine or service the others need a moment to show that they live.
        if now - self._supervised > LONGEST_GAP_S:
            self._lenient_until = now + LONGEST_SILENCE_S
        self._supervised = now
        for number, worker in enumerate(self._workers):
            if worker is None:
                if now >= self._reborn_at[number] and not self._draining:
                    self._serial += 1
                    self._workers[number] = Worker(
                        number, self._serial, self._settings, self._inbox, self._command
                    )
            elif not worker.ready:
                if now - worker.since > LONGEST_START_S:
                    self._bury(worker, f"worker did not start within {LONGEST_START_S} s")
            elif now >= self._lenient_until:
                self._inspect(worker)

    def _inspect(self, worker: Worker) -> None:
        silent = worker.silent_s()
        if silent > LONGEST_SILENCE_S and (worker.batch is None or worker.guilty()[0] is None):
            self._bury(worker, f"worker has been silent for {silent:.0f} s", innocent=True)
            return
        memory = worker.memory()
        limit = self.limits.memory_limit_mb * MEGABYTE
        if worker.batch is None:
            if memory > limit:
                self._bury(worker, f"worker holds {memory // MEGABYTE} MB, its limit is {limit // MEGABYTE}")
            return
        guilty, seconds = worker.guilty()
        if guilty is not None and seconds > self.limits.step_deadline_s:
            self._bury(worker, f"its bars took longer than {self.limits.step_deadline_s:g} s", guilty)
        elif guilty is None and seconds > LONGEST_BETWEEN_S:
            # Nobody's step: the database or a source hangs, so nobody is charged.
            self._bury(worker, f"worker said nothing for {LONGEST_BETWEEN_S:g} s")
        elif memory > limit and memory - worker.memory_before > limit // 4:
            why = (
                f"its bars took {memory // MEGABYTE} MB of memory, the worker's limit is {limit // MEGABYTE}"
            )
            self._bury(worker, why, guilty)

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
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            if worker.batch is None and worker.ready:
                worker.stop()
            else:
                worker.kill()
        for worker in workers:
            worker.close()
