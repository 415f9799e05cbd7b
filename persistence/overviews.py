"""Bots as a list shows them: the row, its cursor, its last step and its open positions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from persistence.columns import read_joined, selected
from persistence.ledger.history import open_positions
from persistence.rows import Bot, Overview, PositionRow
from persistence.setwise import ids_of, in_ids
from persistence.transaction import Transaction, run


def overviews(
    transaction: Transaction, *, user_id: int | None = None, bot_ids: Sequence[int] | None = None
) -> tuple[Overview, ...]:
    """Return bots with cursor, last step and open positions, by id."""
    dialect = transaction.dialect.name
    conditions, parameters = ["true"], dict[str, Any]()
    if user_id is not None:
        conditions.append("b.user_id = :user_id")
        parameters["user_id"] = user_id
    if bot_ids is not None:
        conditions.append(f"b.id {in_ids(transaction)}")
        parameters["ids"] = ids_of(transaction, bot_ids)
    last = selected(Overview, dialect, "t", version="coalesce(s.version, 0)", last_bar="s.last_bar")
    rows = run(
        transaction,
        f"SELECT {selected(Bot, dialect, 'b')}, {last} FROM trading_bots b"
        " LEFT JOIN bot_states s ON s.bot_id = b.id"
        " LEFT JOIN bot_steps t ON t.bot_id = b.id AND t.bar = s.last_bar"
        f" WHERE {' AND '.join(conditions)} ORDER BY b.id",
        parameters,
    ).all()
    held = open_positions(transaction, bot_ids)
    return tuple(
        Overview(bot=_with_damage_of(bot, held.get(bot.id, ())), positions=held.get(bot.id, ()), **found)
        for bot, found in read_joined(rows, Bot, Overview)
    )


def _with_damage_of(bot: Bot, positions: tuple[PositionRow, ...]) -> Bot:
    """Let a list show in one place what is damaged of a bot."""
    damage = tuple(fault for position in positions for fault in position.broken)
    return replace(bot, broken=bot.broken + damage) if damage else bot
