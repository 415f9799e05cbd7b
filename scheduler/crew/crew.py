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

**A turn may raise, wherever it likes.** If it does so over one worker (an answer that is none, a look at it
that fails, a start that the system refuses), that worker is replaced and its batch given back. Anywhere else
nobody could say what is still true, so nothing of it is believed (`_rebuild`): all workers are replaced, the
backlog is made anew, and the loop fires every bot again, whose cursors know what was done. Bots whose charge
is not written yet stay held. Then the next turn begins; after turns that all raise, later each time, and
health says so until one does not.

Who is charged when a worker goes (`verdicts.py` judges, `_take_back` acts):

| a worker ... | its bot (known from the shared bytes) | the others of its batch |
|---|---|---|
| hangs, dies or grows in a step or building | charged, runs alone until it ends well | run again at once |
| says what is no answer | charged if it was in a step; else sought by halves | run again at once |
| is left with threads, children, limits by a bot | charged, runs alone | their outcomes count |
| dies or hangs between bots | sought by halves; charged once it is alone in one | run again, by halves |
| is stopped (SIGSTOP) between bots | nobody is charged | run again at once |
| has a reader (ours) that hangs, or cannot be looked at | nobody is charged | run again at once |
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
from typing import Any, Final

import structlog

from jobs.bar.firing import Outcome
from jobs.clock import Clock
from jobs.settings import Settings
from ops.pulse import Pulse
from persistence.leases import Fence
from scheduler.crew.alarm import Alarm
from scheduler.crew.answers import Done, Ending, Lost, MalformedAnswer, Ready, read_answer
from scheduler.crew.backlog import Backlog, Batch
from scheduler.crew.crew_state import CrewState, Faults
from scheduler.crew.handle import COMMAND, Said, WorkerHandle
from scheduler.crew.lanes import Lanes
from scheduler.crew.losses import Losses
from scheduler.crew.staff import Staff, death_of
from scheduler.crew.verdicts import LONGEST_SILENCE_S, Charge, Verdict

TICK_S: Final = 0.1  # how long the inbox is waited for: the pace at which workers are looked at
LONGEST_GAP_S: Final = 2.0  # between two looks; a longer one means that this process itself was stopped
LONGEST_PAUSE_S: Final = 5.0
LONGEST_LOSS_S: Final = 3.0  # a pause after a lost batch: what is mended is to be found within seconds
FATAL_S: Final = 30.0  # without a turn; nothing in one waits for longer than a worker's end
LONGEST_REST_S: Final = 2.0  # after turns that raised; with it the thread still comes round in time

log = structlog.get_logger(__name__)


class Crew:
    def __init__(self, settings: Settings, clock: Clock, *, command: Sequence[str] = COMMAND) -> None:
        count = settings.workers.count or os.cpu_count() or 1
        # For other threads: both of these are safe to use from any.
        self.charges: queue.SimpleQueue[Charge] = queue.SimpleQueue()
        self.lease_lost = threading.Event()  # a worker was refused by the epoch; the loop asks the lease
        self.rebuilt = threading.Event()  # what was waiting is gone; the loop fires every bot again
        self.pulse = Pulse("crew", fatal_s=FATAL_S)
        self.submitted = 0  # bots handed out so far, for benchmarks
        # What never changes.
        self._limits = settings.workers
        self._clock = clock
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()  # words of other threads and of workers
        # The crew's own thread's, all of it.
        self._backlog = Backlog(count, settings.workers.batch, settings.workers.per_exchange)
        self._lanes = Lanes()  # who runs alone
        self._staff = Staff(count, settings.model_dump(mode="json"), self._inbox, command, self.pulse)
        self._later: list[tuple[float, int, str]] = []  # heap of retries: when (monotonic s), bot, group
        self._fence: Fence | None = None  # what batches are run under
        self._leads = False  # nothing is handed out while this service does not lead
        self._losses = Losses()  # bots whose work the database does not take
        self._pause_s = 0.0  # how long the last pause was that a lost batch asked for
        self._paused_until = 0.0
        self._supervised = time.monotonic()
        self._lenient_until = 0.0  # nobody is judged before: this process has just been woken up
        self._bars = self._failures = 0  # since the start
        self._charged: set[int] = set()  # bots whose charge is not written yet
        self._faults = Faults()
        self._last_outcome: dict[int, Outcome] = {}  # by bot id; the loop looks things up in it
        self._quitting = False  # the thread ends after this turn
        self._draining = False  # no new work, because the service stops
        self._over = threading.Event()  # all work that was under way when draining began has ended
        self._state = self._seen()
        self._thread = threading.Thread(target=self._live, name="crew", daemon=True)

    # Spoken to by other threads.

    def start(self) -> None:
        self._thread.start()
        self.pulse.begin(self._thread)

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

    def state(self) -> CrewState:
        return self._state

    def stop(self, timeout_s: float) -> bool:
        """End all workers: what is under way may finish within `timeout_s`. Return whether all of it did."""
        self.pulse.end()
        self._inbox.put(("end", False))
        finished = self._over.wait(timeout_s)
        self._inbox.put(("end", True))
        self._thread.join(timeout_s + 10.0)
        return finished

    # The crew's own thread.

    def _live(self) -> None:
        while not self._quitting:
            try:
                self._turn()
                self._faults = self._faults.healed()
            except Exception as exc:  # noqa: BLE001 -- outlives whatever a turn raises: the head of this file
                self._rebuild(exc)
            self.pulse.beat()
        self._staff.end()

    def _turn(self) -> None:
        """Hear, supervise, wake what waited for its retry, hand out."""
        self._listen()
        now = time.monotonic()
        self._supervise(now)
        self._wake(now)
        if not self._draining:
            self._hand_out(now)
        self._state = self._seen()
        if self._draining and self._state.busy == 0:
            self._over.set()

    def _rebuild(self, exc: Exception) -> None:
        """Believe nothing of what a turn has left that raised, and wait before the next one."""
        self._faults = self._faults.another(exc)
        log.error("the crew's turn failed, all workers are replaced", why=self._faults.why, exc_info=exc)
        self._staff.replace_all()
        self._backlog = Backlog(self._staff.count, self._limits.batch, self._limits.per_exchange)
        for bot_id in self._charged:
            self._backlog.hold(bot_id)
        self._backlog.part(self._lanes.alone)
        self._later = []
        self._state = self._seen()
        self.rebuilt.set()
        time.sleep(min(LONGEST_REST_S, 0.1 * 2 ** min(self._faults.in_a_row, 8)))

    def _seen(self) -> CrewState:
        workers = list(self._staff)
        oldest, alone = self._backlog.oldest(), self._backlog.oldest_of_lane()
        return CrewState(
            workers=self._staff.count,
            ready=sum(worker.ready for worker in workers),
            busy=sum(worker.batch is not None for worker in workers),
            waiting=self._backlog.waiting,
            running=self._backlog.running,
            waits_s=0.0 if oldest is None else round(time.monotonic() - oldest, 3),
            bars=self._bars,
            failures=self._failures,
            replaced=self._staff.replaced,
            pids=tuple(worker.pid for worker in workers),
            faults=self._faults,
            dropped_prints=self._staff.dropped_prints,
            refused=self._losses.words(time.monotonic()),
            slow=tuple(self._lanes.slow.items()),
            lane_waits_s=0.0 if alone is None else round(time.monotonic() - alone, 3),
        )

    def _listen(self) -> None:
        """Take in everything that was said, waiting up to a tick for the first of it."""
        try:
            said = self._inbox.get(timeout=TICK_S)
            while not self._quitting:
                self._hear(said)
                said = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _hear(self, said: Any) -> None:
        match said:
            case Said() if (worker := self._staff.who_said(said)) is not None:
                self._answer(worker, said.line)
            case ("fire", bots):
                self._backlog.add(bots, time.monotonic())
            case ("lead", fence, leads):
                self._fence, self._leads = fence, leads
                self._paused_until = 0.0
            case ("let_go", bot_id, group, retry_at_ms):
                self._charged.discard(bot_id)
                self._backlog.let_go(bot_id)
                self._fire_at(bot_id, group, retry_at_ms)
            case ("keep", bot_ids):
                self._forget(bot_ids)
                self._losses.keep(bot_ids)
            case ("end", at_once):
                self._draining, self._quitting = True, at_once

    def _forget(self, keep: frozenset[int]) -> None:
        self._backlog.forget(keep)
        self._lanes.forget(keep)
        self._later = [retry for retry in self._later if retry[1] in keep]
        heapq.heapify(self._later)
        self._last_outcome = {id_: outcome for id_, outcome in self._last_outcome.items() if id_ in keep}

    def _answer(self, worker: WorkerHandle, line: bytes | None) -> None:
        if line is None:
            self._bury(worker, death_of(worker))
            return
        batch = worker.batch
        try:
            answer = read_answer(line, None if batch is None else batch.bot_ids)
        except MalformedAnswer as exc:
            self._bury(worker, Verdict(f"worker said what is no answer: {exc}"))
            return
        match answer:
            case Ready():
                self._staff.is_ready(worker)
            case Ending():
                worker.last_word = answer.why  # its end follows, and with it the verdict
            case Lost(held=held) if held:
                self._bury(worker, Verdict(f"a strategy keeps {held}"))
            case _ if batch is not None:
                worker.batch = None
                self._close_batch(worker, batch, answer)

    def _close_batch(self, worker: WorkerHandle, batch: Batch, answer: Done | Lost) -> None:
        if isinstance(answer, Lost):
            self._lost(batch, answer)
            return
        for bot_id, what in answer.left:  # before `_done`, which would let one that is behind wait again
            self._lanes.spoil(bot_id)
            self._charge(bot_id, f"its bars left something behind in the process that others share: {what}")
        self._done(batch, list(answer.outcomes))
        if answer.left:
            self._bury(worker, Verdict("; ".join(f"bot {bot_id}: {what}" for bot_id, what in answer.left)))

    def _charge(self, bot_id: int, why: str) -> None:
        """Hold a bot until the loop has written its charge."""
        self._charged.add(bot_id)
        self._backlog.hold(bot_id)
        self._lanes.charge(bot_id)
        self.charges.put(Charge(bot_id, why))

    def _done(self, batch: Batch, outcomes: list[Outcome]) -> None:
        now = time.monotonic()
        self._losses.over(batch.bot_ids)
        self._pause_s = 0.0
        self._part(outcomes, now)
        self._backlog.finish(batch, now)
        again = [outcome.bot_id for outcome in outcomes if outcome.behind or outcome.unbuilt is not None]
        self._backlog.add([(bot_id, batch.group) for bot_id in again], now)
        for outcome in outcomes:
            self._last_outcome[outcome.bot_id] = outcome
            self._bars += outcome.bars
            if outcome.failure is not None:
                self._failures += 1
                log.warning(
                    "bot failed", bot=outcome.bot_id, kind=outcome.failure.kind, why=outcome.failure.message
                )
            self._fire_at(outcome.bot_id, batch.group, outcome.retry_at_ms)

    def _part(self, outcomes: Sequence[Outcome], now: float) -> None:
        """Let bots run alone, or together again, after what their runs have told."""
        parting = self._lanes.learn(outcomes)
        self._backlog.part(parting.alone)
        self._backlog.trust(parting.together, now)
        slow = self._lanes.slow
        for bot_id in parting.slowed:
            log.warning("bot is slow against the others and runs alone", bot=bot_id, took_ms=slow[bot_id])
        for bot_id in parting.quickened:
            log.info("bot is not slow any more", bot=bot_id)

    def _lost(self, batch: Batch, lost: Lost) -> None:
        """Queue a batch again that nobody is to blame for, and pause, longer after every loss in a row."""
        log.warning("batch lost", what=lost.what, why=lost.why, bots=len(batch.bot_ids))
        self._requeue(batch, batch.bot_ids)
        if lost.what == "lease":
            self._leads = False  # until the loop has asked the lease and says `lead` again
            self.lease_lost.set()
        else:
            self._losses.note(batch.bot_ids, lost.why, time.monotonic())
        self._pause_s = min(LONGEST_LOSS_S, self._pause_s * 2 or 0.25)
        self._paused_until = time.monotonic() + self._pause_s

    def _requeue(self, batch: Batch, bot_ids: Iterable[int]) -> None:
        now = time.monotonic()
        self._backlog.finish(batch, now)
        self._backlog.add(((bot_id, batch.group) for bot_id in bot_ids), now)

    def _bury(self, worker: WorkerHandle, verdict: Verdict) -> None:
        """Replace a worker that ended or has to end, and see to what it was doing."""
        batch, guilty = worker.batch, verdict.guilty
        if guilty is None and batch is not None and not verdict.innocent:
            guilty = worker.guilty()[0]  # the shared bytes outlive the process
        self._staff.replace(worker)
        log.warning("worker replaced", worker=worker.number, pid=worker.pid, why=verdict.why, bot=guilty)
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
            self._backlog.halve(batch)
            return
        # Held before the others are queued: `finish` would let it wait again if it was fired meanwhile.
        self._charge(guilty, verdict.why)
        self._requeue(batch, [bot_id for bot_id in batch.bot_ids if bot_id != guilty])

    def _supervise(self, now: float) -> None:
        """Start the workers that are missing, and end those that a verdict says have to go."""
        # After a stop of the whole machine or service the others need a moment to show that they live.
        if now - self._supervised > LONGEST_GAP_S:
            self._lenient_until = now + LONGEST_SILENCE_S
        self._supervised = now
        if not self._draining:
            self._staff.fill(now)
        for worker in self._staff:
            verdict = None if now < self._lenient_until else self._staff.look_at(worker, now, self._limits)
            if verdict is not None:
                self._bury(worker, verdict)

    def _hand_out(self, now: float) -> None:
        if not self._leads or now < self._paused_until:
            return
        fence = None if self._fence is None else (self._fence.name, self._fence.epoch)
        for worker in self._staff:
            if worker.ready and worker.batch is None:
                batch = self._backlog.take(worker.number, now)
                if batch is not None:
                    worker.run(batch, fence, self._terms(batch))
                    self.submitted += len(batch.bot_ids)

    def _terms(self, batch: Batch) -> dict[str, Any]:
        """Say what a worker may do beside running bars: build engines that were never seen, step many."""
        alone = len(batch.bot_ids) == 1 and batch.sealed
        terms: dict[str, Any] = {} if alone else {"buildable": self._lanes.buildable(batch.bot_ids)}
        return terms | ({"bars": 1} if self._lanes.careful(batch.bot_ids) else {})

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
