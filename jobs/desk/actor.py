"""Who asks, and whether they may: the only place where that is decided."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from persistence import bots
from persistence.database_errors import NoSuchBot
from persistence.rows import Bot
from persistence.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Actor:
    """`name` goes into the audit log. One with a `user_id` sees and moves that user's bots only."""

    name: str
    user_id: int | None = None


class OpenDatabase(Protocol):
    """A `Database` or a `Console`: who opened it closes it."""

    def read(self) -> AbstractContextManager[Transaction]: ...
    def write(self) -> AbstractContextManager[Transaction]: ...


def may(actor: Actor, user_id: int) -> bool:
    """Whether the actor may see and move the bots of a user."""
    return actor.user_id in {None, user_id}


def bot_for(transaction: Transaction, actor: Actor, bot_id: int, *, lock: bool = False) -> Bot:
    """Return the bot. Raises NoSuchBot, also for one of somebody else: its number is nobody's business.

    With `lock` it stays the actor's until the transaction ends; who asks before moving needs that.
    """
    bot = bots.get_bot(transaction, bot_id, lock=lock)
    if bot is None or not may(actor, bot.user_id):
        raise NoSuchBot(bot_id)
    return bot
