"""Commands that move bots: start, stop, restart, pause, resume, remove."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jobs.command.account import actor
from jobs.command.endings import CommandFailed, Ending
from jobs.command.formats import put_documents
from jobs.command.location import opened
from jobs.command.table import put, say
from jobs.desk import looking, moving
from jobs.desk.moving import Moved, Result
from jobs.desk.outline import outline


@dataclass(frozen=True, slots=True)
class Verb:
    """What of the desk a command calls, and what it says where that was done or had been so already."""

    call: Callable[..., tuple[Moved, ...]]
    done: str
    unchanged: str = ""


MOVES: Final[Mapping[str, Verb]] = {
    "start": Verb(moving.start, "started", "was enabled"),
    "stop": Verb(moving.stop, "stopped", "was disabled"),
    "restart": Verb(moving.restart, "restarted"),
    "pause": Verb(moving.pause, "paused", "was paused"),
    "resume": Verb(moving.resume, "resumed", "was running"),
    "remove": Verb(moving.remove, "removed"),
}


def move(arguments: argparse.Namespace) -> int:
    """Run the move that `arguments.verb` names."""
    if arguments.verb == "remove":
        if not arguments.yes:
            _ask(arguments)
    elif bool(arguments.ids) == arguments.all:
        raise CommandFailed(
            Ending.USAGE, f"{arguments.verb} takes bots' numbers, or --all", "jobs list shows the numbers"
        )
    verb = MOVES[arguments.verb]
    options = {"force": arguments.force} if arguments.verb == "remove" else {"reason": arguments.reason}
    with opened(arguments) as database:
        ids = arguments.ids or [overview.bot.id for overview in looking.list_bots(database, actor())]
        results = verb.call(database, actor(), ids, **options)
    _tell(arguments, verb, results)
    kinds = {moved.result for moved in results}
    if Result.NO_SUCH_BOT in kinds:
        return Ending.NO_SUCH_BOT
    return Ending.REFUSED if Result.REFUSED in kinds else Ending.DONE


def _tell(arguments: argparse.Namespace, verb: Verb, results: Sequence[Moved]) -> None:
    if arguments.format in {"table", "wide"}:
        words = {Result.DONE: verb.done, Result.UNCHANGED: f"{verb.unchanged} already"}
        for moved in results:
            done = moved.result in words
            text = f"{words[moved.result]}{_remark(moved)}" if done else _result(moved)
            if moved.result is Result.UNCHANGED and arguments.verb == "resume" and moved.why:
                text = f"was not paused{_remark(moved)}"
            (put if done else say)(f"bot {moved.bot_id}: {text}")
        return
    for moved in results:
        if moved.why and moved.result is not Result.REFUSED:
            say(f"bot {moved.bot_id}: {moved.why}")
    if arguments.format == "name":
        results = [moved for moved in results if moved.result in {Result.DONE, Result.UNCHANGED}]
    rows = [{"id": moved.bot_id, "result": _result(moved)} for moved in results]
    put_documents(arguments, rows, "changes", action=arguments.verb, bots=rows)


def _remark(moved: Moved) -> str:
    return f"; {moved.why}" if moved.why else ""


def _result(moved: Moved) -> str:
    if moved.result is not Result.REFUSED:
        return str(moved.result)
    return f"{moved.result}: {moved.why}; --force removes it all the same"


def _ask(arguments: argparse.Namespace) -> None:
    """Ask on a terminal; elsewhere nobody can answer, and silence is not a yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandFailed(Ending.REFUSED, "nobody can be asked here", "--yes removes without asking")
    with opened(arguments) as database:
        known = {overview.bot.id: overview for overview in looking.list_bots(database, actor())}
    for bot_id in arguments.ids:
        if bot_id in known:
            seen = outline(known[bot_id].bot.config)
            say(f"bot {bot_id}: {seen.name}, {seen.symbol} {seen.interval}, {known[bot_id].version} bars")
    say("remove for good? [y/N] ")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandFailed(Ending.REFUSED, "nothing was removed")
