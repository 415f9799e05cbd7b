"""Log lines: JSON for machines, text on a terminal; moments in UTC, one event a line, on stderr.

**Who logs never waits.** A terminal that was stopped with Ctrl-S, or a pipe whose reader hangs, blocks every
write to it, for as long as it likes; a thread that supervises must not be the one that waits. So
everything that this process says is put into a bounded queue, and one thread does nothing but write. That is
true of our own events, of libraries (they log through `logging`), of warnings, and of whatever else writes
to `sys.stderr`, such as the traceback of a thread that ends: all of them are given the same `LogWriter`.

What does not fit is dropped and counted. The count is said in the log as soon as a line gets through again,
and until then in health (`said`), which status and exit code show. A line that cannot be written at all (no
space left, nobody at the other end) is lost and counted the same way; it ends nothing.

| the process dies ... | what is lost |
|---|---|
| with lines in the queue | those lines; a clean end writes them first, for at most `LAST_S` |
"""

import io
import itertools
import json
import logging
import os
import queue
import select
import sys
import threading
from datetime import UTC, datetime
from typing import Final, Literal, TextIO, cast

import structlog
from structlog.types import EventDict

from ops.pulse import Pulse
from strategies.plain_text import visible
from strategies.secrecy import HIDDEN, is_secret, masked

QUIET: Final = ("apscheduler", "alembic", "sqlalchemy")
MOST_LINES: Final = 4_096  # that wait; with the longest line they are 64 MiB
LONGEST_LINE: Final = 16_384  # characters
BEAT_S: Final = 0.5
LAST_S: Final = 2.0  # that a clean end waits for what is still to be written


def _without_secrets(logger: object, method: str, event: EventDict) -> EventDict:
    """Hide what errors of drivers and strategies say of secrets; JSON escapes the rest by itself."""
    del logger, method
    return {key: HIDDEN if is_secret(key) else masked(value) for key, value in event.items()}


def _harmless(logger: object, method: str, event: EventDict) -> EventDict:
    """Do so for a terminal, whose cursor and order of letters no text from a row may change."""
    told = _without_secrets(logger, method, event)
    return {
        key: visible(value, keep="\n") if isinstance(value, str) else value for key, value in told.items()
    }


class LogWriter(io.TextIOBase):
    """A stream that takes text from any thread without waiting; a thread of its own writes it."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, descriptor: int, *, as_text: bool) -> None:
        super().__init__()
        self.pulse = Pulse("log", fatal_s=None)  # the reader may come back, and the bots need no log
        self._descriptor = descriptor
        self._as_text = as_text
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._drops = itertools.count(1)  # counts without a lock: writers are many
        self._dropped = 0  # lines so far
        self._told = 0  # of them were said in the log
        self._failing = ""  # why the last write failed; empty when it did not
        self._thread = threading.Thread(target=self._live, name="log", daemon=True)

    # For other threads.

    def write(self, text: str) -> int:
        if self._waiting.qsize() >= MOST_LINES:
            self._dropped = next(self._drops)
        elif len(text) > LONGEST_LINE:
            self._waiting.put(f"{text[:LONGEST_LINE]}... cut, {len(text)} characters\n")
        else:
            self._waiting.put(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes as soon as it can, and nobody waits for it."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def said(self, still_s: float) -> str:
        """Say what keeps lines from being written; empty if nothing does."""
        unsaid = self._dropped - self._told
        count = f"; {unsaid} lines of it are lost so far" if unsaid else ""
        if self._failing:
            return f"the log cannot be written: {self._failing}{count}"
        age_s = self.pulse.seen().age_s
        if age_s > still_s:
            return f"the log has stood still for {age_s:.0f} s, because its reader takes nothing{count}"
        return ""

    def begin(self) -> None:
        self._thread.start()
        self.pulse.begin(self._thread)

    def end(self) -> None:
        """Write what waits, for at most `LAST_S`."""
        self.pulse.end()
        self._waiting.put(None)
        self._thread.join(LAST_S)

    # The writing thread's.

    def _live(self) -> None:
        while True:
            self.pulse.beat()
            try:
                text = self._waiting.get(timeout=BEAT_S)
            except queue.Empty:
                continue
            if text is None:
                return
            if self._put(text) and self._dropped > self._told:
                self._tell_dropped()

    def _put(self, text: str) -> bool:
        """Write all of `text`; return whether that succeeded. Blocks for as long as the reader does."""
        left = memoryview(text.encode("utf-8", "backslashreplace"))
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # somebody who shares the terminal has made it non-blocking
                select.select([], [self._descriptor], [], BEAT_S)
            except OSError as exc:
                self._failing = exc.strerror or str(exc)
                self._dropped = next(self._drops)
                return False
        self._failing = ""
        return True

    def _tell_dropped(self) -> None:
        dropped = self._dropped
        moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        said = {
            "event": "lines of this log were lost, because nobody read it or it could not be written",
            "lines": dropped - self._told,
            "level": "error",
            "timestamp": moment,
        }
        line = (
            f"{moment} [error] {said['event']} lines={said['lines']}" if self._as_text else json.dumps(said)
        )
        if self._put(line + "\n"):
            self._told = dropped


class Logs:
    """What a process has set up to log, and gives back when it ends."""

    def __init__(self, form: Literal["auto", "json", "text"]) -> None:
        self._stderr = sys.stderr
        as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
        self.writer = LogWriter(sys.stderr.fileno(), as_text=as_text)
        self._as_text = as_text

    def __enter__(self) -> LogWriter:
        """Send what this process says to the writer. Done once, by the process's own first function."""
        self.writer.begin()
        sys.stderr = self.writer
        renderer: structlog.types.Processor = (
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if self._as_text
            else structlog.processors.JSONRenderer()
        )
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                _harmless if self._as_text else _without_secrets,
                renderer,
            ],
            logger_factory=structlog.WriteLoggerFactory(cast("TextIO", self.writer)),
            cache_logger_on_first_use=False,
        )
        logging.basicConfig(
            level=logging.WARNING,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=self.writer,
            force=True,
        )
        logging.captureWarnings(capture=True)
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        return self.writer

    def __exit__(self, *ended: object) -> None:
        self.writer.end()
        sys.stderr = self._stderr


def set_up_logs(form: Literal["auto", "json", "text"]) -> Logs:
    """Return what sends this process's log to stderr while it is entered."""
    return Logs(form)
