"""The ledger as it is read: newest first, as the values of `persistence.rows`."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields
from decimal import Decimal
from typing import Any, Final, TypeVar, get_type_hints

from persistence.money import read_money
from persistence.rows import OrderRow, PositionRow, StepRow, TradeRow
from persistence.setwise import ids_of, in_ids
from persistence.transaction import Transaction, ms_of, run

Row = TypeVar("Row", OrderRow, PositionRow, StepRow, TradeRow)
MOMENTS: Final = frozenset({"decided_at"})
MONEY: Final = (Decimal, Decimal | None)
ALL: Final = 2**62


def read_trades(transaction: Transaction, bot_id: int, limit: int | None = None) -> tuple[TradeRow, ...]:
    return _newest(transaction, TradeRow, "trading_trades", "number", bot_id, limit)


def read_steps(transaction: Transaction, bot_id: int, limit: int | None = None) -> tuple[StepRow, ...]:
    return _newest(transaction, StepRow, "bot_steps", "bar", bot_id, limit)


def read_orders(transaction: Transaction, bot_id: int, limit: int | None = None) -> tuple[OrderRow, ...]:
    return _newest(transaction, OrderRow, "orders", "number", bot_id, limit)


def open_positions(
    transaction: Transaction, bot_ids: Collection[int] | None = None
) -> dict[int, tuple[PositionRow, ...]]:
    """Return bot id -> its open positions, oldest first, of bots that exist and hold any."""
    some = "" if bot_ids is None else f" AND r.bot_id {in_ids(transaction)}"
    rows = run(
        transaction,
        f"SELECT {_columns(PositionRow, transaction.dialect.name)}"
        " FROM trading_positions r JOIN trading_bots b ON b.id = r.bot_id"
        f" WHERE r.closed_bar IS NULL{some} ORDER BY r.bot_id, r.number",
        {} if bot_ids is None else {"ids": ids_of(transaction, bot_ids)},
    )
    positions: dict[int, tuple[PositionRow, ...]] = {}
    for position in _values(PositionRow, rows):
        positions[position.bot_id] = (*positions.get(position.bot_id, ()), position)
    return positions


def _newest(
    transaction: Transaction, kind: type[Row], table: str, order: str, bot_id: int, limit: int | None
) -> tuple[Row, ...]:
    rows = run(
        transaction,
        f"SELECT {_columns(kind, transaction.dialect.name)} FROM {table} r"
        f" WHERE r.bot_id = :id ORDER BY r.{order} DESC LIMIT :limit",
        {"id": bot_id, "limit": ALL if limit is None else limit},
    )
    return tuple(_values(kind, rows))


def _columns(kind: type[Row], dialect: str) -> str:
    """Return SQL for the columns of table alias `r` that the fields of `kind` are named after."""
    names = (f"r.{each.name}" for each in fields(kind))
    return ", ".join(ms_of(name, dialect) if name[2:] in MOMENTS else name for name in names)


def _values(kind: type[Row], rows: Iterable[Any]) -> Iterator[Row]:
    hints = get_type_hints(kind)
    money = [index for index, each in enumerate(fields(kind)) if hints[each.name] in MONEY]
    for row in rows:
        values = list(row)
        for place in money:
            if not isinstance(values[place], Decimal):
                values[place] = read_money(values[place])
        yield kind(*values)
