"""The ledger as it is read: newest first, as the values of `persistence.rows`."""

from collections.abc import Collection
from typing import Final

from persistence.columns import Row, Table, read_rows, selected
from persistence.money import plain_text
from persistence.rows import ALIVE, ORDERS, STEPS, TRADES, OrderRow, PositionRow, StepRow, TradeRow
from persistence.setwise import ids_of, in_ids
from persistence.transaction import Transaction, is_sqlite, run

ALL: Final = 2**62  # more rows than there can be: SQL has no word for "no limit" that both databases know


def read_trades(transaction: Transaction, bot_id: int, limit: int | None = None) -> tuple[TradeRow, ...]:
    return _newest(transaction, TRADES, bot_id, limit)


def read_steps(transaction: Transaction, bot_id: int, limit: int | None = None) -> tuple[StepRow, ...]:
    return _newest(transaction, STEPS, bot_id, limit)


def read_orders(transaction: Transaction, bot_id: int, limit: int | None = None) -> tuple[OrderRow, ...]:
    return _newest(transaction, ORDERS, bot_id, limit)


def open_positions(
    transaction: Transaction, bot_ids: Collection[int] | None = None
) -> dict[int, tuple[PositionRow, ...]]:
    """Return bot id -> its open positions, oldest first, of bots that exist and hold any."""
    some = "" if bot_ids is None else f" AND r.bot_id {in_ids(transaction)}"
    rows = run(
        transaction,
        f"SELECT {selected(PositionRow, transaction.dialect.name, 'r')}"
        " FROM trading_positions r JOIN trading_bots b ON b.id = r.bot_id"
        f" WHERE r.closed_bar IS NULL{some} ORDER BY r.bot_id, r.number",
        {} if bot_ids is None else {"ids": ids_of(transaction, bot_ids)},
    )
    positions: dict[int, tuple[PositionRow, ...]] = {}
    for position in read_rows(rows, PositionRow):
        positions[position.bot_id] = (*positions.get(position.bot_id, ()), position)
    return positions


def newest_steps(transaction: Transaction, bot_ids: Collection[int]) -> dict[int, int]:
    """Return bot id -> open time of the last bar that has a step, for bots that have any."""
    whole = " AND typeof(bar) = 'integer'" if is_sqlite(transaction) else ""
    rows = run(
        transaction,
        # One look into the key for each, not a walk over all steps.
        f"SELECT b.id, (SELECT max(bar) FROM bot_steps WHERE bot_id = b.id{whole})"
        f" FROM trading_bots b WHERE b.id {in_ids(transaction)}",
        {"ids": ids_of(transaction, bot_ids)},
    )
    return {bot_id: bar for bot_id, bar in rows if bar is not None}


def holdings(transaction: Transaction, bot_id: int) -> str | None:
    """Say what a bot holds: its open positions and how many orders are open; None if nothing is."""
    held = [
        f"{position.side} {plain_text(position.quantity)} {position.symbol}"
        for position in open_positions(transaction, (bot_id,)).get(bot_id, ())
    ]
    alive = ", ".join(f"'{status}'" for status in ALIVE)
    ((count,),) = run(
        transaction,
        f"SELECT count(*) FROM orders WHERE bot_id = :id AND status IN ({alive})",
        {"id": bot_id},
    )
    orders = [f"{count} open order{'' if count == 1 else 's'}"] if count else []
    return ", ".join((*held, *orders)) or None


def _newest(transaction: Transaction, table: Table[Row], bot_id: int, limit: int | None) -> tuple[Row, ...]:
    """Return a bot's rows by the last column of the key, which numbers them within the bot."""
    rows = run(
        transaction,
        f"SELECT {selected(table.row, transaction.dialect.name, 'r')} FROM {table.name} r"
        f" WHERE r.bot_id = :id ORDER BY r.{table.key[-1]} DESC LIMIT :limit",
        {"id": bot_id, "limit": ALL if limit is None else limit},
    )
    return read_rows(rows, table.row)
