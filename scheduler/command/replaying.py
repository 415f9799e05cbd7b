"""`scheduler replay` on a terminal: what it is doing, what it did, and as which exit code it ended."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from jobs.command.endings import CommandFailed, Ending
from jobs.command.moments import iso
from jobs.command.table import put, say
from jobs.replay.journey import NothingToReplay, Report, ServiceRuns, Tally, replay
from jobs.settings import Settings
from jobs.signals import signals_to
from persistence.schema import SchemaUnfit
from scheduler.command.progress import progress


def print_replay(settings: Settings, begin: int, end: int, only: Sequence[int] | None) -> int:
    tally = Tally()
    try:
        with _stopped_by_signals(tally), progress() as onlooker:
            report = replay(settings, begin, end, only, onlooker, tally)
    except SchemaUnfit as exc:
        raise CommandFailed(Ending.FAILED, str(exc), "mend it by: scheduler db upgrade") from exc
    except ServiceRuns as exc:
        raise CommandFailed(Ending.TRY_AGAIN, str(exc)) from exc
    except NothingToReplay as exc:
        raise CommandFailed(Ending.NOT_RUNNING, str(exc)) from exc
    _print(report)
    if report.stopped_at is not None:
        return Ending.INTERRUPTED
    return Ending.FAILED if report.failures else Ending.DONE


def _print(report: Report) -> None:
    pace = report.bars / max(report.seconds, 1e-9)
    put(
        f"{report.bots} bots, {report.bars} bars, {report.trades} trades,"
        f" {report.seconds:.1f} s, {pace:.0f} bars/s"
    )
    for bot_id, reason in report.failures.items():
        say(f"replay: bot {bot_id} failed: {reason}")
    if report.stopped_at is not None:
        say(f"replay: interrupted at {iso(report.stopped_at)}; the same command goes on from there")


@contextmanager
def _stopped_by_signals(tally: Tally) -> Iterator[None]:
    """Let the batch under way finish; a second signal ends at once, which costs that batch only."""

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        tally.interrupted = True
        signal.signal(number, signal.SIG_DFL)

    with signals_to(stop, ("SIGINT", "SIGTERM")):
        yield
