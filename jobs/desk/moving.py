"""Start, stop, restart, pause, resume, remove: for many bots at once, as often as you like.

`enabled` and `paused` are what people want; `status` is what is, and moves through `persistence.rows.MOVES`
alone. So these functions write wishes, and the service brings the status after them at the next boundary.
What ends a bot's running (stop, pause) writes the status too, because there may be no service that would;
that it runs is for the service alone to say.

A bot that is as it was wished already is not touched: no revision, no audit line, result `unchanged`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from jobs.desk.actor import Actor, OpenDatabase, bot_for
from persistence import bots
from persistence.database_errors import NoSuchBot, PositionOpen
from persistence.ledger.history import holdings
from persistence.rows import Bot
from persistence.transaction import Transaction

TOGETHER: Final = 100  # bots in a transaction: the service must not wait long for its turn to write


class Result(StrEnum):
    DONE = "done"
    UNCHANGED = "unchanged"  # it was so already
    NO_SUCH_BOT = "no such bot"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one bot; `why` says why it was refused, or what whoever moved it should know."""

    bot_id: int
    result: Result
    why: str = ""


def start(
    database: OpenDatabase, actor: Actor, bot_ids: Iterable[int], reason: str | None = None
) -> tuple[Moved, ...]:
    """Enable bots, and give those that their errors have stopped a new chance. A paused one stays paused."""

    def move(transaction: Transaction, bot: Bot) -> bool:
        if bot.enabled and bot.status != "error":
            return False
        # The trigger of edits forgives what an error has stopped, also where nothing else changes.
        return bots.edit_bot(transaction, bot.id, {"enabled": True}, actor=actor.name, reason=reason)

    return _moved(database, actor, bot_ids, move)


def stop(
    database: OpenDatabase, actor: Actor, bot_ids: Iterable[int], reason: str | None = None
) -> tuple[Moved, ...]:
    """Disable bots. A step that was begun before this is committed cannot commit any more."""

    def move(transaction: Transaction, bot: Bot) -> bool:
        return bot.enabled and _disabled(transaction, actor, bot.id, reason)

    return _moved(database, actor, bot_ids, move, _holds)


def restart(
    database: OpenDatabase, actor: Actor, bot_ids: Iterable[int], reason: str | None = None
) -> tuple[Moved, ...]:
    """Stop and start bots in one transaction: cursor and state stay, errors and their waits are forgotten.

    Orders are refused on the bars that closed before now, as after any pause. Never `unchanged`.
    """

    def move(transaction: Transaction, bot: Bot) -> bool:
        _disabled(transaction, actor, bot.id, reason)
        bots.forgive(transaction, bot.id)
        return bots.edit_bot(transaction, bot.id, {"enabled": True}, actor=actor.name, reason=reason)

    return _moved(database, actor, bot_ids, move)


def pause(
    database: OpenDatabase, actor: Actor, bot_ids: Iterable[int], reason: str | None = None
) -> tuple[Moved, ...]:
    """No new bars from the next boundary on, until `resume`."""

    def move(transaction: Transaction, bot: Bot) -> bool:
        return bots.set_paused(transaction, bot.id, paused=True, actor=actor.name, reason=reason)

    return _moved(database, actor, bot_ids, move, _holds)


def resume(
    database: OpenDatabase, actor: Actor, bot_ids: Iterable[int], reason: str | None = None
) -> tuple[Moved, ...]:
    """Go on from the cursor; a bot that its errors have stopped gets a new chance."""

    def move(transaction: Transaction, bot: Bot) -> bool:
        return bots.set_paused(transaction, bot.id, paused=False, actor=actor.name, reason=reason)

    return _moved(database, actor, bot_ids, move, _is_disabled)


def remove(
    database: OpenDatabase,
    actor: Actor,
    bot_ids: Iterable[int],
    reason: str | None = None,
    *,
    force: bool = False,
) -> tuple[Moved, ...]:
    """Delete bots with their states; the ledger stays. One with an open position is refused unless forced."""

    def move(transaction: Transaction, bot: Bot) -> bool:
        bots.remove_bot(transaction, bot.id, force=force, actor=actor.name, reason=reason)
        return True

    return _moved(database, actor, bot_ids, move, _holds)


def _holds(transaction: Transaction, bot: Bot) -> str:
    held = holdings(transaction, bot.id)
    return "" if held is None else f"it holds {held}, which nobody watches while it does not run"


def _is_disabled(transaction: Transaction, bot: Bot) -> str:
    del transaction
    return "" if bot.enabled else f"it is disabled and does not run: jobs start {bot.id} enables it"


def _nothing(transaction: Transaction, bot: Bot) -> str:
    del transaction, bot
    return ""


def _disabled(transaction: Transaction, actor: Actor, bot_id: int, reason: str | None) -> bool:
    return bots.edit_bot(transaction, bot_id, {"enabled": False}, actor=actor.name, reason=reason)


def _moved(
    database: OpenDatabase,
    actor: Actor,
    bot_ids: Iterable[int],
    move: Callable[[Transaction, Bot], bool],
    remark: Callable[[Transaction, Bot], str] = _nothing,
) -> tuple[Moved, ...]:
    """Move bots and return what became of them, in the order in which they were named."""
    asked = tuple(dict.fromkeys(bot_ids))
    ids = sorted(asked)  # rows are locked in this order by everybody, or two commands would deadlock
    results: dict[int, Moved] = {}
    for first in range(0, len(ids), TOGETHER):
        with database.write() as transaction:
            for bot_id in ids[first : first + TOGETHER]:
                results[bot_id] = _one(transaction, actor, bot_id, move, remark)
    return tuple(results[bot_id] for bot_id in asked)


def _one(
    transaction: Transaction,
    actor: Actor,
    bot_id: int,
    move: Callable[[Transaction, Bot], bool],
    remark: Callable[[Transaction, Bot], str],
) -> Moved:
    """Move one bot. A refusal has written nothing, so the others of its transaction are not touched by it."""
    try:
        bot = bot_for(transaction, actor, bot_id, lock=True)
        why = remark(transaction, bot)  # before: a bot that is removed holds nothing any more
        changed = move(transaction, bot)
    except NoSuchBot:
        return Moved(bot_id, Result.NO_SUCH_BOT)
    except PositionOpen as exc:
        return Moved(bot_id, Result.REFUSED, str(exc))
    return Moved(bot_id, Result.DONE if changed else Result.UNCHANGED, why)
