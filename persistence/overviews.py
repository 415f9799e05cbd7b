"""Bots as a list shows them: each row with its cursor, its last step and its open positions."""

from collections.abc import Sequence
from typing import Any

from persistence import bots
from persistence.ledger.history import open_positions
from persistence.money import read_money
from persistence.rows import Overview, PositionRow
from persistence.setwise import ids_of, in_ids
from persistence.transaction import Transaction, ms_of, run


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
    rows = run(
        transaction,
        f"SELECT {bots.bot_columns(dialect)}, s.version, s.last_bar, CAST(t.equity AS TEXT),"
        f" {ms_of('t.decided_at', dialect)}, t.took_ms FROM trading_bots b"
        " LEFT JOIN bot_states s ON s.bot_id = b.id"
        " LEFT JOIN bot_steps t ON t.bot_id = b.id AND t.bar = s.last_bar"
        f" WHERE {' AND '.join(conditions)} ORDER BY b.id",
        parameters,
    ).all()
    held = open_positions(transaction, bot_ids)
    return tuple(_overview(row, held) for row in rows)


def _overview(row: Sequence[Any], held: dict[int, tuple[PositionRow, ...]]) -> Overview:
    version, last_bar, equity, decided_at, took_ms = row[-5:]
    bot = bots.bot_of(row)
    return Overview(
        bot, version or 0, last_bar, read_money(equity), decided_at, took_ms, held.get(bot.id, ())
    )
