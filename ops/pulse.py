"""The heartbeat of one supervising thread: health is green because threads come round, not because they are.

A thread that is blocked is alive for the system. So each of them says in its own rhythm, at least once a
second, that it has come round; whoever looks reads how long ago that was. Nothing is locked: a moment is
replaced as a whole. Before `begin` and after `end` nobody is judged, because a thread that does not run
yet, or was asked to end, owes no beat.
"""

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Beat:
    """One look at a thread: how long ago it came round (s), and after how long the process ends for it."""

    name: str
    age_s: float
    dead: bool
    fatal_s: float | None  # None: standing still can heal by itself, or harms nobody


class Pulse:
    def __init__(self, name: str, *, fatal_s: float | None) -> None:
        self.name = name
        self._fatal_s = fatal_s
        self._at = time.monotonic()
        self._thread: threading.Thread | None = None  # None while nobody is judged

    def begin(self, thread: threading.Thread) -> None:
        """Judge `thread`, which runs, from now on."""
        self._at = time.monotonic()
        self._thread = thread

    def end(self) -> None:
        self._thread = None

    def beat(self) -> None:
        self._at = time.monotonic()

    def seen(self) -> Beat:
        thread = self._thread
        age_s = 0.0 if thread is None else max(0.0, time.monotonic() - self._at)
        return Beat(self.name, round(age_s, 1), thread is not None and not thread.is_alive(), self._fatal_s)
