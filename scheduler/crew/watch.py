"""A few bytes that a worker shares with its parent: whose bars are being decided, since when, a heartbeat.

The worker writes a bot's name before it steps that bot's bars, and takes it away afterwards; the
parent reads when it wonders. That order is the whole point: memory that both have mapped outlives the
process that wrote it, also after a kill -9, so whatever a bot does to its process, its name is there. A
message through the pipe would have to be flushed, sent and read, and a process that dies does none of it.

There is no lock: a reader can meet the name of one bot with the time of another. Names are therefore checked
against the batch (`handle.py`); a wrong time is read in some ns out of a bot's seconds, and matters only if
the bot before had nearly used up its own. Times are of the machine's monotonic clock, which all its
processes share and nobody sets.

If the machine dies, the bytes are gone and nobody is left to ask. The file has no name: the parent makes it
without one and the worker inherits its descriptor, so nothing stays behind, however they die. Windows hands
descriptors to nobody: there it has a name that the worker is told, and a parent that is killed leaves it.
"""

import mmap
import os
import struct
import sys
import tempfile
import time
from contextlib import suppress
from typing import Final

WORK: Final = struct.Struct("<qq")  # bot id (0 is nobody), ns of the machine's monotonic clock
BEAT: Final = struct.Struct("<q")  # ns of the same clock
SIZE: Final = WORK.size + BEAT.size
NOBODY: Final = 0


class Watch:
    """One file of `SIZE` bytes, mapped by both processes. `place` is how the other one finds it."""

    def __init__(self, place: int | str) -> None:
        self.place = place
        descriptor = os.open(place, os.O_RDWR) if isinstance(place, str) else place
        self._shared = mmap.mmap(descriptor, SIZE)  # keeps a descriptor of its own
        if isinstance(place, str):
            os.close(descriptor)

    def handed_over(self) -> None:
        """Let go of the descriptor, once the worker has it or has been started with it."""
        if isinstance(self.place, int):
            os.close(self.place)

    def write(self, bot_id: int | None) -> None:
        WORK.pack_into(self._shared, 0, bot_id or NOBODY, time.monotonic_ns())

    def beat(self) -> None:
        """Say that this process is not stopped. A thread of its own does, whatever the others do."""
        BEAT.pack_into(self._shared, WORK.size, time.monotonic_ns())

    def silent_s(self) -> float:
        """Return how long ago the last beat was."""
        beat: int = BEAT.unpack_from(self._shared, WORK.size)[0]
        return max(0.0, (time.monotonic_ns() - beat) / 1e9)

    def read(self) -> tuple[int | None, float]:
        """Return whose work is under way and for how many s; (None, s) between bots."""
        bot_id, since = WORK.unpack_from(self._shared, 0)
        return bot_id or None, max(0.0, (time.monotonic_ns() - since) / 1e9)

    def close(self) -> None:
        self._shared.close()
        if isinstance(self.place, str):
            with suppress(OSError):  # Windows, while the worker still has it; the next cleaning takes it
                os.unlink(self.place)  # noqa: PTH108 -- a place is a descriptor or a path's text


def make_watch() -> Watch:
    """Make the bytes of a worker that is about to be started. Raises OSError."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("onebar-watch")  # in memory: a full disk has no say in it
    elif sys.platform == "win32":
        descriptor, path = tempfile.mkstemp(prefix="onebar-watch-")
        os.write(descriptor, bytes(SIZE))
        os.close(descriptor)
        return Watch(path)
    else:
        with tempfile.TemporaryFile(prefix="onebar-watch-") as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SIZE)
    return Watch(descriptor)
