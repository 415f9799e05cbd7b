"""New bots: from checked configurations to rows, all in one transaction or none."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.desk.actor import Actor, OpenDatabase, may
from jobs.desk.checking import Checked
from persistence import bots
from strategies.faults import InvalidConfig


class NotYours(PermissionError):
    """An actor who belongs to one user wanted a bot for another."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What a new row says beside its configuration. Without `user_id` the bot is the actor's, or user 1's."""

    user_id: int | None = None
    description: str = ""
    enabled: bool = True


def has_bots(database: OpenDatabase) -> bool:
    """Whether there is any bot, of any user."""
    with database.read() as transaction:
        return bool(bots.standing(transaction))


def add(
    database: OpenDatabase,
    actor: Actor,
    checked: Sequence[Checked],
    columns: Columns,
    *,
    now_ms: int,
    to_empty: bool = False,
) -> tuple[int, ...]:
    """Insert bots and return their ids. With `to_empty` nothing is inserted if there is any bot already.

    It takes what `check` returned, so that nobody gets past the check and nobody pays for it twice. Raises
    InvalidConfig with all faults of all of them, NotYours.
    """
    faults = tuple(fault for one in checked for fault in one.faults)
    if faults:
        raise InvalidConfig(faults)
    user_id = columns.user_id or actor.user_id or 1
    if not may(actor, user_id):
        raise NotYours(f"{actor.name} may add bots of user {actor.user_id} only, not of user {user_id}")
    with database.write() as transaction:
        # Looked at inside the transaction: two services that start together add their bots once.
        if to_empty and bots.standing(transaction):
            return ()
        return tuple(
            bots.add_bot(
                transaction,
                config=one.text,
                now_ms=now_ms,
                user_id=user_id,
                schedule=one.schedule,
                description=columns.description,
                enabled=columns.enabled and one.config is not None and one.config.enabled,
                actor=actor.name,
            )
            for one in checked
        )
