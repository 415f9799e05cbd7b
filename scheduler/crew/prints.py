"""What strategies print: read by the parent, logged line by line with the bot's id, and limited.

A worker never holds the terminal or the log's file. Printing into a terminal that was stopped would stop the
worker, and nobody could say whose bars those were; printing without end would fill the disk. So its stdout
and stderr are a pipe to its parent, which reads without end, logs what the limits allow, and counts the rest.

Whose line it is, the worker knows: before the first line of another bot it writes a mark (`MARK`, the bot's
id, a new line). What C code writes past Python's streams is told under the mark that was last.

The limits are for one worker, over time, and for one bot between two marks. What is over them is dropped, and
said once when it is over, at the latest every `SAY_S`, with the bots that printed it.
"""

import io
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

MARK: Final = "\0"
PER_SECOND: Final = 8_192  # bytes of a worker that are logged, over time
BURST: Final = 65_536  # bytes of a worker at once
PER_STEP: Final = 4_096  # bytes of one bot between two marks
LONGEST_LINE: Final = 1_000  # characters
SAY_S: Final = 10.0
LONGEST_ID: Final = 18  # digits

log = structlog.get_logger(__name__)


class Prints:
    """Called by one reader's thread; `dropped` may be read by others."""

    def __init__(self, number: int) -> None:
        self.dropped = 0  # bytes so far
        self._number = number
        self._bot: int | None = None  # whose mark was last
        self._rest = b""  # the beginning of a line whose end has not come
        self._allowed = float(BURST)
        self._of_step = PER_STEP
        self._since = time.monotonic()
        self._unsaid: dict[int | None, int] = {}  # bytes that were dropped, by bot
        self._said_at = 0.0

    def take(self, chunk: bytes) -> bool:
        """Log what is allowed; return whether the flood is only counted for now."""
        now = time.monotonic()
        self._allowed = min(BURST, self._allowed + (now - self._since) * PER_SECOND)
        self._since = now
        drowned = self._allowed <= 0
        if drowned:
            self._count(chunk)
        else:
            self._lines(chunk)
        if self._unsaid and now - self._said_at > SAY_S:
            self.say_dropped()
        return drowned

    def say_dropped(self) -> None:
        """Say what was dropped since this was said last."""
        self._said_at = time.monotonic()
        unsaid, self._unsaid = self._unsaid, {}
        for bot_id, count in unsaid.items():
            log.warning("prints dropped, they were too many", bot=bot_id, worker=self._number, bytes=count)

    def end(self) -> None:
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        self.say_dropped()

    def _lines(self, chunk: bytes) -> None:
        *lines, rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._line(line)
        self._rest = rest
        if len(rest) > PER_STEP:  # a line without an end
            self._line(rest)
            self._rest = b""

    def _line(self, line: bytes) -> None:
        before, mark, number = line.partition(MARK.encode())
        if mark:  # behind the beginning of a line, if another bot's had no end
            if before:
                self._line(before)
            self._mark(number)
            return
        size = len(line) + 1
        if size > self._of_step or self._allowed <= 0:
            self._drop(size)
            return
        self._allowed -= size
        self._of_step -= size
        text = line.decode("utf-8", "backslashreplace").rstrip()[:LONGEST_LINE]
        if text:
            shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
            log.info("a strategy says", bot=self._bot, worker=self._number, text=shown)

    def _count(self, chunk: bytes) -> None:
        """Count a chunk without looking at its lines, except for whose the last of it is."""
        self._drop(len(self._rest) + len(chunk))
        self._rest = b""
        last = chunk.rfind(MARK.encode())
        if last >= 0:
            self._mark(chunk[last + 1 :].split(b"\n", 1)[0])

    def _mark(self, number: bytes) -> None:
        self._bot = int(number) if number.isdigit() and len(number) <= LONGEST_ID and int(number) else None
        self._of_step = PER_STEP

    def _drop(self, size: int) -> None:
        self.dropped += size
        self._unsaid[self._bot] = self._unsaid.get(self._bot, 0) + size


class MarkedStream(io.TextIOWrapper):
    """A worker's stdout or stderr: says whose words they are before they change hands."""

    def __init__(self, descriptor: int, at_work: Callable[[], int], marks: "Marks") -> None:
        raw = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
        super().__init__(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self._at_work = at_work
        self._marks = marks

    def write(self, text: Any) -> int:
        bot_id = self._at_work()
        if self._marks.bot_id != bot_id:
            self._marks.bot_id = bot_id
            super().write(f"{MARK}{bot_id}\n")
        return super().write(text.replace(MARK, "\ufffd") if isinstance(text, str) else text)


class Marks:
    """Whose mark was written last, by any of the two streams."""

    def __init__(self) -> None:
        self.bot_id = 0
