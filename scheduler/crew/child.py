"""A worker process: reads batches of bot ids as JSON lines, runs them, answers with their outcomes.

Started as `python -m scheduler.crew.child`. The first line is `{"settings": ..., "watch": place}`; then
`{"run": [ids], "fence": [name, epoch] | null}` is answered with `{"done": [...], "left": [...]}` or
`{"lost": why}`, and an exception that ends this process is told first, as `{"ending": what}`. Lines, not
pickles: nothing that arrives here is executed. `answers.py` reads them.

Three threads. The main one runs a batch and answers it, one after the other, so the n-th answer is that of
the n-th batch and needs no number. A listener does nothing but wait for the next line, because its end is
how a worker hears of its parent's death while the main thread is in a strategy's endless loop. The heart
beats whatever the others do, and stands still only if the whole process does.

The streams are taken before anything of a strategy is imported: what a strategy prints goes to the parent by
a pipe of its own, under the bot's mark (`prints.py`), and cannot pass as an answer; what it reads is empty.

What a bot's bars leave behind in this process (`traces.py`) is told with the answer, because it hurts the
next.

It survives nothing that it does not know: an unexpected exception, of whatever kind, is named and ends it,
and the parent, who can read the shared bytes, finds out whose fault that was. Two failures are known and are
nobody's: the database is lost, or the lease is. Those end the batch and not the worker.

| it dies ... | the parent sees |
|---|---|
| in the step of a bot | the bot's name in the shared bytes; the transaction was not begun, or rolls back |
| between bots, or in the commit | nobody's name; the cursors say whether the commit was in time |
| after the commit, before the answer | the same; run again, its bots have nothing due |
| because its parent died | nobody is there to see; the next service goes on from the cursors |
"""

import gc
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final

from sqlalchemy.engine import make_url

from jobs.bar.failures import Failure, FailureKind
from jobs.bar.firing import Outcome, run_bars
from jobs.bar.runtime import Runtime, open_runtime
from jobs.settings import Settings
from persistence.database_errors import DatabaseUnavailable, LeaseLost
from persistence.leases import Fence
from scheduler.crew.prints import MarkedStream, Marks
from scheduler.crew.traces import Traces, holds_write_lock
from scheduler.crew.watch import Watch

ORPHANED: Final = 70
BEAT_S: Final = 0.5
Run = Callable[[Sequence[int], Runtime], tuple[Outcome, ...]]


def main(run: Run = run_bars) -> int:
    """Serve until the parent says stop or is gone."""
    _ignore_terminal()
    commands, answers = _private_streams()
    first = json.loads(commands.readline() or "null")
    if first is None:  # the parent died before it had said anything
        return ORPHANED
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands, inbox), daemon=True).start()
    watch = Watch(first["watch"])
    watch.handed_over()
    threading.Thread(target=_beat, args=(watch,), daemon=True).start()
    desk = Desk(watch)
    rt = open_runtime(Settings.model_validate(first["settings"]), watch=desk.hand_over)
    gc.collect()
    gc.freeze()  # what is imported stays, so collections need not look at it again
    desk.begin()
    _say(answers, {"ready": os.getpid()})
    try:
        while "run" in (message := inbox.get()):
            watch.write(None)  # from here on the time between bots is counted anew
            _say(answers, _work(run, message, rt, desk))
    except BaseException as exc:
        # Also those that are no Exception: the exit code alone would not say what a strategy has raised.
        _say(answers, {"ending": f"{type(exc).__name__}: {exc}"[:500]})
        raise
    rt.database.close()
    return 0


class Desk:
    """Whose bars are at work, and what follows from a change of hands."""

    def __init__(self, watch: Watch) -> None:
        self.bot_id = 0  # at work; 0 is nobody
        self._watch = watch
        self._pid = os.getpid()
        self._traces: Traces | None = None  # none while nobody's bars have been here

    def begin(self) -> None:
        """Take what this process has become until now as its own."""
        self._traces = Traces()
        marks = Marks()
        sys.stdout, sys.stderr = (MarkedStream(number, lambda: self.bot_id, marks) for number in (1, 2))

    def hand_over(self, bot_id: int | None) -> None:
        if os.getpid() != self._pid:
            os._exit(ORPHANED)  # a copy that a strategy has forked must not commit or answer a second time
        if self._traces is not None:
            self._traces.hand_over(bot_id or 0)
        self.bot_id = bot_id or 0
        self._watch.write(bot_id)

    def left(self) -> list[tuple[int, str]]:
        return [] if self._traces is None else self._traces.taken()


def _work(run: Run, message: dict[str, Any], rt: Runtime, desk: Desk) -> dict[str, Any]:
    fence = Fence(*message["fence"]) if message["fence"] else None
    terms = replace(
        rt,
        fence=fence,
        buildable=message.get("buildable"),
        most_bars=message.get("bars", rt.most_bars),
    )
    try:
        outcomes = run(message["run"], terms)
    except DatabaseUnavailable as exc:
        desk.hand_over(None)
        return {"lost": "database", "message": str(exc), "held": _held(rt)}
    except LeaseLost as exc:
        desk.hand_over(None)
        return {"lost": "lease", "message": str(exc)}
    desk.hand_over(None)
    return {"done": [_written(outcome) for outcome in outcomes], "left": desk.left()}


def _held(rt: Runtime) -> str:
    """Say what a strategy of this process keeps from everybody, if that is why the database is lost."""
    if rt.database.dialect == "sqlite":
        file = make_url(rt.database.url).database
        if file and holds_write_lock(Path(file)):
            return "the write lock of the database, in a transaction of its own"
    return ""


def _written(outcome: Outcome) -> list[Any]:
    failure = outcome.failure
    said = None if failure is None else [failure.kind, failure.message[:500], failure.retry_at_ms]
    ran = [outcome.bot_id, outcome.bars, outcome.behind, said, outcome.retry_at_ms]
    return [*ran, outcome.unbuilt, outcome.engine, outcome.took_ms]


def read_outcome(written: Sequence[Any]) -> Outcome:
    """Read what `_written` wrote."""
    bot_id, bars, behind, said, retry_at_ms, unbuilt, engine, took_ms = written
    failure = None if said is None else Failure(FailureKind(said[0]), said[1], said[2])
    return Outcome(bot_id, bars, behind, failure, retry_at_ms, unbuilt, engine, took_ms)


def _private_streams() -> tuple[IO[str], IO[str]]:
    """Take the pipes away from everybody else: what a strategy prints must not pass as an answer.

    Standard error is the parent's pipe for prints; standard output joins it.
    """
    commands = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return commands, answers


def _ignore_terminal() -> None:
    """Leave Ctrl-C to the parent, which ends its workers in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, signal.SIG_IGN)


def _listen(commands: IO[str], inbox: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in commands:
        inbox.put(json.loads(line))
    # The pipe ends only with the parent. What is under way here must not outlive it.
    os._exit(ORPHANED)


def _beat(watch: Watch) -> None:
    while True:
        watch.beat()
        time.sleep(BEAT_S)


def _say(answers: IO[str], message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
