"""Commands that change rows: pause, resume, remove.

A hundred bots share a transaction. A process that dies between two of them has done the first; the
same command may simply be given again, because a bot that is paused already stays as it is.
"""

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from jobs.command.documents import document
from jobs.command.endings import CommandFailed, Ending
from jobs.command.location import opened
from jobs.command.outline import outline
from jobs.command.table import as_csv, as_json, as_json_lines, put, say
from persistence import bots
from persistence.database_errors import NoSuchBot, PositionOpen
from persistence.rows import Overview
from persistence.transaction import Transaction

DONE: Final = "done"
UNCHANGED: Final = "unchanged"
NO_SUCH_BOT: Final = "no such bot"
REFUSED: Final = "refused"
TOGETHER: Final = 100  # bots in a transaction: the service must not wait long for its turn to write


@dataclass(frozen=True, slots=True)
class Result:
    bot_id: int
    result: str
    detail: str = ""

    @property
    def text(self) -> str:
        return f"{self.result}: {self.detail}" if self.detail else self.result


def pause(arguments: argparse.Namespace) -> int:
    return _paused(arguments, "pause", paused=True)


def resume(arguments: argparse.Namespace) -> int:
    return _paused(arguments, "resume", paused=False)


def remove(arguments: argparse.Namespace) -> int:
    if not arguments.yes:
        _ask(arguments)

    def one(transaction: Transaction, bot_id: int) -> bool:
        bots.remove_bot(transaction, bot_id, force=arguments.force, actor=actor())
        return True

    return _told(arguments, "remove", _changed(arguments, dict.fromkeys(arguments.ids), one))


def actor() -> str:
    """Return who the audit log shall name: the account that gave the command."""
    try:
        return f"jobs:{getpass.getuser()}"
    except (KeyError, OSError):  # no such account, as in a container that runs under a bare number
        return f"jobs:{os.getuid() if hasattr(os, 'getuid') else '?'}"


def _paused(arguments: argparse.Namespace, action: str, *, paused: bool) -> int:
    def one(transaction: Transaction, bot_id: int) -> bool:
        return bots.set_paused(transaction, bot_id, paused, actor=actor(), reason=arguments.reason or None)

    return _told(arguments, action, _changed(arguments, _chosen(arguments, action), one))


def _chosen(arguments: argparse.Namespace, action: str) -> Sequence[int]:
    if bool(arguments.ids) == arguments.all:
        raise CommandFailed(
            Ending.USAGE, f"{action} takes bots' numbers, or --all", "jobs list shows the numbers"
        )
    if arguments.ids:
        return tuple(dict.fromkeys(arguments.ids))
    with opened(arguments) as console:
        return tuple(each.bot.id for each in console.list())


def _changed(
    arguments: argparse.Namespace, bot_ids: Iterable[int], one: Callable[[Transaction, int], bool]
) -> list[Result]:
    ids, results = list(bot_ids), []
    with opened(arguments) as console:
        for first in range(0, len(ids), TOGETHER):
            with console.write() as transaction:
                results += [_result(transaction, bot_id, one) for bot_id in ids[first : first + TOGETHER]]
    return results


def _result(transaction: Transaction, bot_id: int, one: Callable[[Transaction, int], bool]) -> Result:
    try:
        changed = one(transaction, bot_id)
    except NoSuchBot:
        return Result(bot_id, NO_SUCH_BOT)
    except PositionOpen as exc:
        return Result(bot_id, REFUSED, f"{exc}; --force removes it all the same")
    return Result(bot_id, DONE if changed else UNCHANGED)


def _told(arguments: argparse.Namespace, action: str, results: Sequence[Result]) -> int:
    rows = [{"id": each.bot_id, "result": each.text} for each in results]
    if arguments.format == "json":
        put(as_json(document("changes", action=action, bots=rows)))
    elif arguments.format == "jsonl":
        put(as_json_lines(rows))
    elif arguments.format == "csv":
        put(as_csv(["id", "result"], [list(each.values()) for each in rows], headers=arguments.headers))
    elif arguments.format == "name":
        put("\n".join(str(each.bot_id) for each in results if each.result in {DONE, UNCHANGED}))
    else:
        for each in results:
            _tell(action, each)
    return _ending(results)


def _tell(action: str, each: Result) -> None:
    past = {"pause": "paused", "resume": "resumed", "remove": "removed"}[action]
    words = {
        DONE: past,
        UNCHANGED: f"was {'paused' if action == 'pause' else 'running'} already",
    }
    text = f"bot {each.bot_id}: {words.get(each.result, each.text)}"
    (put if each.result in words else say)(text)


def _ending(results: Iterable[Result]) -> int:
    kinds = {each.result for each in results}
    if NO_SUCH_BOT in kinds:
        return Ending.NO_SUCH_BOT
    return Ending.REFUSED if REFUSED in kinds else Ending.DONE


def _ask(arguments: argparse.Namespace) -> None:
    """Ask on a terminal; elsewhere nobody can answer, and silence is not a yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandFailed(Ending.REFUSED, "nobody can be asked here", "--yes removes without asking")
    with opened(arguments) as console:
        known = {each.bot.id: each for each in console.list()}
    for bot_id in arguments.ids:
        if bot_id in known:
            say(_described(known[bot_id]))
    say("remove for good? [y/N] ")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandFailed(Ending.REFUSED, "nothing was removed")


def _described(overview: Overview) -> str:
    seen = outline(overview.bot.config)
    return f"bot {overview.bot.id}: {seen.name}, {seen.symbol} {seen.interval}, {overview.version} bars"
