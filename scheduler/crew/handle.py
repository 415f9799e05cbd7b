"""The parent's handle of one worker process: started, spoken to in JSON lines, watched, ended.

States: starting -> ready <-> busy (`batch` is set) -> gone. Nothing here decides: `crew.py` moves the
states, `verdicts.py` says who has to go.

Two threads per worker, one for each direction. The crew's thread writes commands and never reads; a
listener reads answers, puts them into the crew's inbox and touches nothing else. So a worker that does
not answer holds up only its listener. A worker that ends closes its pipe, which its listener reports as
the last word (`Said` without a message): a death is an answer like any other and comes in order behind
the answers that were given before it.

The pipe of commands is also what keeps a worker from outliving this process (`child.py`): nobody else may
hold its other end, so workers inherit no pipes of one another.

| this process dies ... | the worker sees | what stays |
|---|---|---|
| before the first line | the end of its commands: exits | the watch file, a few bytes |
| while the worker is idle or busy | the same; a busy one exits inside its transaction | the same |
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import psutil

from scheduler.crew.backlog import Batch
from scheduler.crew.watch import Watch

COMMAND: Final = (sys.executable, "-m", "scheduler.crew.child")


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a worker, or None once it is gone. `serial` tells a worker from its successor."""

    number: int
    serial: int
    message: dict[str, Any] | None


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
        handle, path = tempfile.mkstemp(prefix="onebar-watch-")
        os.close(handle)
        self.watch = Watch(Path(path), create=True)
        self._process = subprocess.Popen(  # noqa: S603 -- our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", **_apart()
        )
        self._commands = cast("IO[str]", self._process.stdin)
        self._answers = cast("IO[str]", self._process.stdout)
        self._resources: psutil.Process | None = None
        self._send({"settings": settings, "watch": path})
        self._listener = threading.Thread(target=self._listen, args=(heard,), daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

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
        self._process.kill()

    def close(self, timeout_s: float = 5.0) -> None:
        """Wait for its end, forcing it after `timeout_s`, and let go of what it held."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(OSError):  # what was still to be written has nobody to read it
            self._commands.close()
        self._listener.join()
        self._answers.close()
        self.watch.close()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._commands.write(json.dumps(message) + "\n")
            self._commands.flush()
        except OSError:
            self._process.kill()  # it is gone or deaf; its listener reports the end

    def _listen(self, heard: "queue.SimpleQueue[Any]") -> None:
        for line in self._answers:
            heard.put(Said(self.number, self.serial, json.loads(line)))
        with suppress(subprocess.TimeoutExpired):  # its pipe ends a moment before it does
            self._process.wait(1.0)
        heard.put(Said(self.number, self.serial, None))


def _apart() -> dict[str, Any]:
    """Keep the terminal's Ctrl-C from the workers: they are ended by their parent, in order."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
