"""Whether a worker has to go, and who is charged for it: judged from what its parent can see.

A worker cannot be asked what it is doing: the one that matters does not answer. So it writes down whose
bars it is about to decide before it begins (`watch.py`), and beats from a thread of its own. Three
facts follow, and no others are needed:

- somebody is named, and has been for too long, or the memory grew under that name: that bot did it;
- nobody is named: the worker was reading, fetching or committing for all of its
  batch. The crew looks for the guilty one by halves;
- nobody is named and the heart stands still: the process is stopped (SIGSTOP, a frozen machine). A
  bot cannot do that to it, so nobody is charged.

A bot in an endless loop that holds Python's lock stops the heart too. That is why silence is judged only
where nobody is named: a silent worker that names a bot waits for that bot's deadline.
"""

from dataclasses import dataclass
from typing import Final

from jobs.settings import WorkerSettings
from scheduler.crew.handle import WorkerHandle

# Since the last progress (a bot, a series). Reading, fetching and committing have deadlines below this.
LONGEST_BETWEEN_S: Final = 90.0
LONGEST_SILENCE_S: Final = 10.0  # a worker that is not stopped beats twice a second
MEGABYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Charge:
    """A bot whose bars hung or killed a worker, to be written into its row."""

    bot_id: int
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a worker has to go. `guilty` is the bot at work; `innocent` if no bot can have done it."""

    why: str
    guilty: int | None = None
    innocent: bool = False


def verdict_on(worker: WorkerHandle, limits: WorkerSettings) -> Verdict | None:
    """Judge a worker that is ready; None if it may go on."""
    guilty, seconds = worker.guilty()
    silent = worker.watch.silent_s()
    if silent > LONGEST_SILENCE_S and (worker.batch is None or guilty is None):
        return Verdict(f"worker has been silent for {silent:.0f} s", innocent=True)
    memory = worker.memory()
    limit = limits.memory_limit_mb * MEGABYTE
    if worker.batch is None:
        why = f"worker holds {memory // MEGABYTE} MB, its limit is {limit // MEGABYTE}"
        return Verdict(why) if memory > limit else None
    if guilty is not None and seconds > limits.step_deadline_s:
        return Verdict(f"its bars took longer than {limits.step_deadline_s:g} s", guilty)
    if guilty is None and seconds > LONGEST_BETWEEN_S:
        return Verdict(f"worker said nothing for {LONGEST_BETWEEN_S:g} s")
    # A worker that was near its limit before this batch is not the fault of who happens to be at work:
    # it is replaced when it is idle again. Only growth by a quarter of the limit is a bot's doing.
    if memory > limit and memory - worker.memory_before > limit // 4:
        why = f"its bars took {memory // MEGABYTE} MB of memory, the worker's limit is {limit // MEGABYTE}"
        return Verdict(why, guilty)
    return None
