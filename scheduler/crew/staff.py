"""The workers of a crew by number: started, looked at, ended, and started again when there is one missing.

Belongs to the crew's thread, as all of the crew does; nothing here knows bots or batches. What can fail over
one worker fails over that one alone: a start that the system refuses (no process, memory, descriptor or
thread to be had) is tried again later, each time later; a worker that cannot be looked at has to go; one that
cannot be ended in order is spoken of no more, and its successor is started all the same.
"""

import queue
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import structlog

from jobs.settings import WorkerSettings
from ops.pulse import Pulse
from scheduler.crew.handle import Said, WorkerHandle
from scheduler.crew.verdicts import Verdict, verdict_on

LONGEST_START_S: Final = 120.0
LONGEST_PAUSE_S: Final = 5.0  # between two starts
READER_STILL_S: Final = 5.0  # a reader comes round twice a second
LAST_WORD_S: Final = 2.0  # that a worker's pipe may stay open behind its end

log = structlog.get_logger(__name__)


class Staff:
    def __init__(
        self,
        count: int,
        settings: dict[str, Any],
        inbox: "queue.SimpleQueue[Any]",
        command: Sequence[str],
        pulse: Pulse,
    ) -> None:
        self.count = count
        self.replaced = 0  # workers since the start
        self._settings = settings  # a worker's first line
        self._inbox = inbox  # where their words go
        self._command = command
        self._pulse = pulse  # beaten between two waits for a worker's end
        self._workers: list[WorkerHandle | None] = [None] * count  # by number; None while there is none
        self._reborn_at = [0.0] * count  # by number: when a missing worker may be started (monotonic s)
        self._deaths = [0] * count  # by number: since it was last ready, for the back-off
        self._serial = 0  # of the worker that was started last
        self._ended_at: dict[int, float] = {}  # by serial: when a worker was first seen to have ended
        self._dropped = 0  # bytes that workers that are gone had printed too much

    def __iter__(self) -> Iterator[WorkerHandle]:
        return iter([worker for worker in self._workers if worker is not None])

    @property
    def dropped_prints(self) -> int:
        return self._dropped + sum(worker.dropped_prints for worker in self)

    def who_said(self, said: Said) -> WorkerHandle | None:
        """Return the worker whose word this is, if it is not its predecessor's."""
        worker = self._workers[said.number]
        return worker if worker is not None and worker.serial == said.serial else None

    def is_ready(self, worker: WorkerHandle) -> None:
        worker.ready = True
        self._deaths[worker.number] = 0

    def fill(self, now: float) -> None:
        """Start the workers that are missing."""
        for number, worker in enumerate(self._workers):
            if worker is None and now >= self._reborn_at[number]:
                self._start(number)

    def look_at(self, worker: WorkerHandle, now: float, limits: WorkerSettings) -> Verdict | None:
        """Say why a worker has to go, if it has to. What cannot be looked at cannot be trusted either."""
        try:
            if worker.exit_code is not None:
                return self._last_word(worker, now)
            if worker.still_s() > READER_STILL_S:
                return Verdict("nobody reads what it says: a thread of ours hangs", innocent=True)
            if not worker.ready:
                late = now - worker.since > LONGEST_START_S
                return Verdict(f"worker did not start within {LONGEST_START_S} s") if late else None
            return verdict_on(worker, limits)
        except Exception as exc:
            log.exception("a worker cannot be looked at", pid=worker.pid)
            return Verdict(f"it cannot be looked at: {type(exc).__name__}: {exc}", innocent=True)

    def replace(self, worker: WorkerHandle) -> None:
        """End a worker; its successor is started in time."""
        number = worker.number
        self._workers[number] = None
        self._dismiss(worker)
        self.replaced += 1
        self._deaths[number] += 1
        # The first death costs no time. A worker that cannot even start must not be started all the time.
        self._pause(number, 0.0 if self._deaths[number] == 1 else _pause_s(self._deaths[number]))

    def replace_all(self) -> None:
        for worker in self:
            self.replace(worker)

    def end(self) -> None:
        """End all: idle ones on their own feet, the others where they stand; they roll back."""
        for worker in self:
            if worker.batch is None and worker.ready:
                worker.stop()
            else:
                worker.kill()
        for worker in self:
            worker.close()

    def _start(self, number: int) -> None:
        self._serial += 1
        try:
            worker = WorkerHandle(number, self._serial, self._settings, self._inbox, self._command)
        except Exception:
            self._deaths[number] += 1
            self._pause(number, _pause_s(self._deaths[number]))
            log.exception("a worker cannot be started, trying again", worker=number)
        else:
            self._workers[number] = worker

    def _pause(self, number: int, seconds: float) -> None:
        self._reborn_at[number] = time.monotonic() + seconds

    def _last_word(self, worker: WorkerHandle, now: float) -> Verdict | None:
        """Take a worker's end from its exit code, if its pipe does not tell it: somebody else holds that."""
        since = self._ended_at.setdefault(worker.serial, now)
        return death_of(worker) if now - since > LAST_WORD_S else None

    def _dismiss(self, worker: WorkerHandle) -> None:
        self._ended_at.pop(worker.serial, None)
        try:
            self._dropped += worker.dropped_prints
            worker.kill()
            if not worker.close():
                log.error("a reader of a worker hangs and is left behind", pid=worker.pid)
        except Exception:  # its successor is started all the same
            log.exception("a worker could not be ended in order", pid=worker.pid)
        self._pulse.beat()  # a worker's end may take some s, and there are many


def death_of(worker: WorkerHandle) -> Verdict:
    """Say how a worker died, by the exception's name if it could still tell it."""
    raised = f" of {worker.last_word}" if worker.last_word else ""
    return Verdict(f"worker died{raised} with exit code {worker.exit_code}")


def _pause_s(deaths: int) -> float:
    doubled: int = 2 ** min(deaths, 8)
    return min(LONGEST_PAUSE_S, 0.25 * doubled)
