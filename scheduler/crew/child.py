"""A worker process: reads batches of bot ids as JSON lines, runs them, answers with their outcomes.

Started as `python -m scheduler.crew.child`. The first line is `{"settings": ..., "watch": path}`; then
`{"run": [ids], "fence": [name, epoch] | null}` is answered with `{"done": [...]}` or `{"lost": why}`.
Lines, not pickles: nothing that arrives here is executed.

It dies as soon as its parent does, also in the middle of a step: the transaction rolls back and the
cursor says where to go on. It does not catch what it does not know: an unexpected exception ends it,
and the parent finds out whose fault that was.
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

from jobs.bar.failures import Failure, FailureKind
from jobs.bar.firing import Outcome, run_bars
from jobs.bar.runtime import Runtime, open_runtime
from jobs.settings import Settings
from persistence.database_errors import DatabaseUnavailable, LeaseLost
from persistence.leases import Fence
from scheduler.crew.watch import Watch

ORPHANED: Final = 70
BEAT_S: Final = 0.5
Run = Callable[[Sequence[int], Runtime], tuple[Outcome, ...]]


def main(run: Run = run_bars) -> int:
    """Serve until the parent says stop or is gone."""
    ignore_terminal()
    commands, answers = private_streams()
    first = json.loads(commands.readline() or "null")
    if first is None:
        return ORPHANED
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands, inbox), daemon=True).start()
    watch = Watch(Path(first["watch"]))
    threading.Thread(target=_beat, args=(watch,), daemon=True).start()
    rt = open_runtime(Settings.model_validate(first["settings"]), watch=watch.write)
    gc.collect()
    gc.freeze()  # what is imported stays, so collections need not look at it each time
    _say(answers, {"ready": os.getpid()})
    while "run" in (message := inbox.get()):
        watch.write(None)
        _say(answers, _work(run, message, rt))
    rt.database.close()
    return 0


def _work(run: Run, message: dict[str, Any], rt: Runtime) -> dict[str, Any]:
    fence = Fence(*message["fence"]) if message["fence"] else None
    try:
        outcomes = run(message["run"], replace(rt, fence=fence))
    except DatabaseUnavailable as exc:
        return {"lost": "database", "message": str(exc)}
    except LeaseLost as exc:
        return {"lost": "lease", "message": str(exc)}
    return {"done": [_written(outcome) for outcome in outcomes]}


def _written(outcome: Outcome) -> list[Any]:
    failure = outcome.failure
    said = None if failure is None else [failure.kind, failure.message[:500], failure.retry_at_ms]
    return [outcome.bot_id, outcome.bars, outcome.behind, said, outcome.retry_at_ms]


def read_outcome(written: Sequence[Any]) -> Outcome:
    """Read what `_written` wrote."""
    bot_id, bars, behind, said, retry_at_ms = written
    failure = None if said is None else Failure(FailureKind(said[0]), said[1], said[2])
    return Outcome(bot_id, bars, behind, failure, retry_at_ms)


def private_streams() -> tuple[IO[str], IO[str]]:
    """Take the pipes away from everybody else: what a strategy prints must not pass as an answer."""
    commands = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return commands, answers


def ignore_terminal() -> None:
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
