"""One worker process as its parent sees it: started, spoken to in JSON lines, watched, ended.

States: starting -> ready <-> busy -> gone. Nothing here decides; `workers.py` does.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
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


class Worker:
    def __init__(
        self,
        number: int,
        serial: int,
        settings: dict[str, Any],
        heard: "queue.SimpleQueue[Any]",
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.number = number
        self.serial = serial
        self.ready = False
        self.batch: Batch | None = None
        self.since = time.monotonic()
        self.memory_before = 0
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

    def run(self, batch: Batch, fence: tuple[str, int] | None) -> None:
        """Hand a batch over. A worker that is gone already says so by its end."""
        self.batch = batch
        self.since = time.monotonic()
        self.memory_before = self.memory()
        self.watch.write(None)
        self._send({"run": batch.bot_ids, "fence": fence})

    def guilty(self) -> tuple[int | None, float]:
        """Return the bot whose bars are being decided, if any, and for how many s."""
        bot_id, seconds = self.watch.read()
        if self.batch is not None and bot_id not in self.batch.bot_ids:
            return None, seconds
        return bot_id, seconds

    def silent_s(self) -> float:
        """Return for how long the process has not even shown that it is there."""
        return self.watch.silent_s()

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
        _close(self._commands)
        self._listener.join()
        self._answers.close()
        self.watch.close()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._commands.write(json.dumps(message) + "\n")
            self._commands.flush()
        except (BrokenPipeError, OSError):
            self._process.kill()  # it is gone or deaf; its listener reports the end

    def _listen(self, heard: "queue.SimpleQueue[Any]") -> None:
        for line in self._answers:
            heard.put(Said(self.number, self.serial, json.loads(line)))
        with suppress(subprocess.TimeoutExpired):  # its pipe ends a moment before it does
            self._process.wait(1.0)
        heard.put(Said(self.number, self.serial, None))


def _close(pipe: IO[str]) -> None:
    try:
        pipe.close()
    except OSError:
        return  # what was still to be written has nobody to read it


def _apart() -> dict[str, Any]:
    """Keep the terminal's Ctrl-C from the workers: they are ended by their parent, in order."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
