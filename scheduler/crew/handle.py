"""The parent's handle of one worker process: started, spoken to in JSON lines, watched, ended.

States: starting -> ready <-> busy (`batch` is set) -> gone. Nothing here decides: `crew.py` moves the
states, `verdicts.py` says who has to go.

Three threads per worker, one for each pipe. The crew's thread writes commands and never reads; one reader
(`reader.py`) cuts answers into lines, puts them into the crew's inbox and touches nothing else; another one
takes what strategies print (`prints.py`). So a worker that does not answer holds up only its reader. A worker
that ends closes its pipe, which its reader reports as the last word (`Said` without a line): a death is an
answer like any other and comes in order behind the answers that were given before it. A process that a
strategy has forked may hold that pipe longer than the worker lived; then its exit code is the last word.

The pipe of commands is also what keeps a worker from outliving this process (`child.py`): nobody else may
hold its other end, so workers inherit no pipes of one another. A worker leads a process group: what its
strategies have forked ends with it.

Nothing here waits for a worker, or for a thread, without a limit: the crew's thread is the one that waits.

| this process dies ... | the worker sees | what stays |
|---|---|---|
| before the first line | the end of its commands: exits | nothing |
| while the worker is idle or busy | the same; a busy one exits inside its transaction | nothing |
"""

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Final, cast

import psutil

from scheduler.crew.answers import MOST_BYTES
from scheduler.crew.backlog import Batch
from scheduler.crew.prints import Prints
from scheduler.crew.reader import Reader
from scheduler.crew.watch import make_watch

COMMAND: Final = (sys.executable, "-m", "scheduler.crew.child")


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a worker, or None once it is gone. `serial` tells a worker from its successor."""

    number: int
    serial: int
    line: bytes | None


class WorkerHandle:
    def __init__(
        self,
        number: int,
        serial: int,
        settings: dict[str, Any],
        heard: "queue.SimpleQueue[Any]",
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.number = number  # its place in the crew, which a successor takes over
        self.serial = serial  # its own, which no successor has
        self.ready = False  # has imported everything and said so
        self.batch: Batch | None = None  # what it works on
        self.since = time.monotonic()  # of its start, then of its last batch
        self.memory_before = 0  # bytes when it got its batch
        self.last_word = ""  # the exception that ends it, if it could still say so
        self._heard = heard
        self._rest = b""  # the answers' reader's: the beginning of a line
        self._prints = Prints(number)
        self.watch = make_watch()
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- our own module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(self.watch.place,) if isinstance(self.watch.place, int) else (),
                **_apart(),
            )
        except BaseException:
            self.watch.close()
            raise
        finally:
            self.watch.handed_over()
        self._commands, self._answers, self._printed = (
            cast("IO[bytes]", pipe)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        )
        self._resources: psutil.Process | None = None
        self._send({"settings": settings, "watch": self.watch.place})
        self._readers: list[tuple[Reader, IO[bytes]]] = []
        try:
            self._readers.append((Reader(self._answers.fileno(), self._cut, self._gone), self._answers))
            self._readers.append(
                (Reader(self._printed.fileno(), self._prints.take, self._prints.end), self._printed)
            )
        except BaseException:  # no thread to be had: nobody will hear of this worker
            self.kill()
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        code: int | None = self._process.poll()
        return code

    @property
    def dropped_prints(self) -> int:
        """Return how many bytes of what strategies printed were dropped."""
        return self._prints.dropped

    def still_s(self) -> float:
        """Return for how long one of its readers has not come round."""
        return max(reader.still_s() for reader, _ in self._readers)

    def run(self, batch: Batch, fence: tuple[str, int] | None, terms: Mapping[str, Any]) -> None:
        """Hand a batch over. A worker that is gone already says so by its end."""
        self.batch = batch
        self.since = time.monotonic()
        self.memory_before = self.memory()
        self.watch.write(None)  # before it is told: the time until it reads the line counts as between bots
        self._send({"run": batch.bot_ids, "fence": fence, **terms})

    def guilty(self) -> tuple[int | None, float]:
        """Return the bot whose bars are being decided, if any, and for how many s."""
        bot_id, seconds = self.watch.read()
        # Two numbers that another process writes are not read at one instant: a name is checked.
        if self.batch is not None and bot_id not in self.batch.bot_ids:
            return None, seconds
        return bot_id, seconds

    def memory(self) -> int:
        """Return the resident bytes of the process; 0 once it is gone."""
        try:
            if self._resources is None:
                self._resources = psutil.Process(self.pid)
            return int(self._resources.memory_info().rss)
        except psutil.Error:
            return 0

    def stop(self) -> None:
        """Ask it to end after what it does now."""
        self._send({"stop": True})

    def kill(self) -> None:
        """End it and what it has forked."""
        if sys.platform != "win32":
            with suppress(ProcessLookupError, PermissionError):  # its group is gone; or it has left it
                os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Wait for its end, forcing it after `timeout_s`, and let go of what it held.

        Return whether all of it could be let go: a reader that hangs keeps its pipe.
        """
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel; init will see its end
                self._process.wait(timeout_s)
        with suppress(OSError):  # what was still to be written has nobody to read it
            self._commands.close()
        ended = True
        for reader, pipe in self._readers:
            if reader.stop(1.0):
                pipe.close()
            else:
                ended = False
        self.watch.close()
        return ended

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._commands.write(json.dumps(message).encode() + b"\n")
            self._commands.flush()
        except OSError:
            self._process.kill()  # it is gone or deaf; its reader reports the end

    # The answers' reader's.

    def _cut(self, chunk: bytes) -> bool:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MOST_BYTES:  # a line without an end is no answer either
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._heard.put(Said(self.number, self.serial, line))
        return False

    def _gone(self) -> None:
        with suppress(subprocess.TimeoutExpired):  # its pipe ends a moment before it does
            self._process.wait(1.0)
        self._heard.put(Said(self.number, self.serial, None))


def _apart() -> dict[str, Any]:
    """Keep the terminal's Ctrl-C from the workers: they are ended by their parent, in order."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
