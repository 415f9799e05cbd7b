"""Reads one pipe of a worker, in a thread of its own that shows that it comes round.

A thread that waits in `read` beats for nobody: silence of the worker and a thread that hangs would look the
same. So it waits in `poll`, for half a second at a time, and beats in between. That also lets it
be told to end while somebody else still holds the pipe, such as a process that a strategy has forked:
a `read` would wait for that one's end. Windows has no `poll` for pipes: there it reads, and is not judged.

What is read is handed over in the order it came, and then, once, that there is nothing more. A reader that
raises says so with its end; `crew.py` replaces the worker.
"""

import os
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

BEAT_MS: Final = 500
MOST_BYTES: Final = 1 << 20  # of one read, and of the pipe where the system gives it that much
SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ of Linux
UNHURRIED_S: Final = 0.002  # between two reads of a pipe whose content is only counted


class Reader:
    def __init__(self, descriptor: int, take: Callable[[bytes], bool], ended: Callable[[], None]) -> None:
        """`take` gets what was read and returns whether it is only being counted, so that haste is no use."""
        self._descriptor = descriptor
        self._take = take
        self._ended = ended
        self._over = False  # set by `stop`: read no more
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._live, name=f"reader-{descriptor}", daemon=True)
        self._thread.start()

    def still_s(self) -> float:
        """Return for how long this thread has not come round, although nobody has told it to end."""
        if self._over or sys.platform == "win32" or not self._thread.is_alive():
            return 0.0
        return time.monotonic() - self._beat

    def stop(self, timeout_s: float) -> bool:
        """Let it read what has come already and end. Return whether it did; one that hangs is left behind."""
        self._thread.join(timeout_s)  # it ends by itself if the worker was the last to hold the pipe
        self._over = True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _live(self) -> None:
        try:
            self._read()
        finally:
            self._ended()

    def _read(self) -> None:
        if sys.platform == "win32":
            while chunk := os.read(self._descriptor, MOST_BYTES):
                self._take(chunk)
            return
        _widen(self._descriptor)
        ready = select.poll()
        ready.register(self._descriptor, select.POLLIN)
        while True:
            self._beat = time.monotonic()
            if not ready.poll(BEAT_MS):
                if self._over:
                    return
                continue
            chunk = os.read(self._descriptor, MOST_BYTES)
            if not chunk:
                return
            if self._take(chunk):
                time.sleep(UNHURRIED_S)


def _widen(descriptor: int) -> None:
    """Give the pipe room, so that a flood costs this process few calls."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):  # the user's pipes have a limit together; then it stays as it is
            fcntl.fcntl(descriptor, SET_PIPE_SIZE, MOST_BYTES)
