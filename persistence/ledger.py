"""The owner of what steps leave behind: bot_steps, orders, trading_trades, trading_positions.

Written set-wise by `persistence.steps`, after its guard; read by whoever shows it.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from persistence.money import read_money, text_of, text_or_none
from persistence.rows import OrderRow, PositionRow, StepRow, TradeRow
from persistence.setwise import Target, ids_of, in_ids, write_rows
from persistence.transaction import Transaction, is_sqlite, ms_of, run

if TYPE_CHECKING:
    from persistence.steps import Advance
    from strategies.engine.values import OrderEvent, Step, TradeEvent

STEPS: Final = Target(
    "bot_steps",
    (
        ("bot_id", "int"), ("bar", "int"), ("version", "int"), ("cash", "money"), ("equity", "money"),
        ("positions", "text"), ("orders", "int"), ("trades", "int"), ("trading", "flag"),
        ("decided_at", "moment"), ("took_ms", "double"),
    ),
)  # fmt: skip
ORDERS: Final = Target(
    "orders",
    (
        ("bot_id", "int"), ("number", "int"), ("client_order_id", "text"), ("symbol", "text"), ("feed", "text"),
        ("side", "text"), ("exectype", "text"), ("size", "money"), ("price", "money"), ("pricelimit", "money"),
        ("status", "text"), ("bar", "int"), ("updated_bar", "int"), ("executed_size", "money"),
        ("executed_price", "money"), ("executed_bar", "int"), ("commission", "money"), ("pnl", "money"),
        ("tradeid", "int"), ("parent", "int"), ("info", "text"),
    ),
    ("bot_id", "number"),
    keep=("client_order_id", "bar"),
)  # fmt: skip
TRADES: Final = Target(
    "trading_trades",
    (
        ("bot_id", "int"), ("number", "int"), ("symbol", "text"), ("feed", "text"), ("side", "text"),
        ("quantity", "money"), ("entry_bar", "int"), ("entry_time", "moment"), ("entry_price", "money"),
        ("exit_bar", "int"), ("exit_time", "moment"), ("exit_price", "money"), ("entry_order", "int"),
        ("exit_order", "int"), ("commission", "money"), ("gross_pnl", "money"), ("net_pnl", "money"),
        ("entry_logic", "text"), ("exit_logic", "text"), ("exit_reason", "text"), ("bars", "int"),
    ),
    ("bot_id", "number"),
)  # fmt: skip
POSITIONS: Final = Target(
    "trading_positions",
    (
        ("bot_id", "int"), ("number", "int"), ("symbol", "text"), ("feed", "text"), ("side", "text"),
        ("quantity", "money"), ("price", "money"), ("opened_bar", "int"), ("closed_bar", "int"),
    ),
    ("bot_id", "number"),
)  # fmt: skip


def client_order_id(bot_id: int, bar: int, number: int) -> str:
    """Return the id that the order has at an exchange; it can be computed again after any crash.

    At most 36 characters of letters, digits and dashes, which all venues take. A bot's id is never
    used again, nor an order's number within it.
    """
    return f"ob-{bot_id}-{bar // 1_000}-{number}"


def write_ledger(transaction: Transaction, advances: Sequence["Advance"], *, now_ms: int) -> None:
    """Write what the steps did. The caller's guard has made sure that it is not there yet."""
    steps: list[tuple[Any, ...]] = []
    orders: dict[tuple[int, int], tuple[Any, ...]] = {}
    trades: dict[tuple[int, int], tuple[Any, ...]] = {}
    positions: dict[tuple[int, int], tuple[Any, ...]] = {}
    held: list[tuple[Any, ...]] = []
    for advance in advances:
        steps += _step_rows(advance, now_ms)
        for bar, step, *_ in advance.steps:
            for order in step.orders:
                orders[advance.bot_id, order.ref] = _order_row(advance, bar, order)
            for trade in step.trades:
                positions[advance.bot_id, trade.ref] = _position_row(advance, trade)
                if not trade.is_open:
                    trades[advance.bot_id, trade.ref] = _trade_row(advance, trade)
        held += _held_rows(advance)
    write_rows(transaction, STEPS, steps)
    write_rows(transaction, ORDERS, list(orders.values()))
    write_rows(transaction, TRADES, list(trades.values()))
    write_rows(transaction, POSITIONS, list(positions.values()))
    _follow_positions(transaction, held)


def _step_rows(advance: "Advance", now_ms: int) -> Iterable[tuple[Any, ...]]:
    took_ms = advance.took_ms / len(advance.steps)
    for index, (bar, step, *trading) in enumerate(advance.steps, advance.from_version + 1):
        yield (
            advance.bot_id, bar, index, text_of(step.cash), text_of(step.value), _positions_text(step),
            len({order.ref for order in step.orders}), sum(not trade.is_open for trade in step.trades),
            all(trading), now_ms, took_ms,
        )  # fmt: skip


def _positions_text(step: "Step") -> str:
    if not step.positions:
        return "{}"
    return json.dumps({each.feed: [text_of(each.size), text_of(each.price)] for each in step.positions})


def _symbol(advance: "Advance", feed: str) -> str:
    return (advance.symbols or {}).get(feed, advance.symbol)


def _order_row(advance: "Advance", bar: int, order: "OrderEvent") -> tuple[Any, ...]:
    return (
        advance.bot_id, order.ref, client_order_id(advance.bot_id, order.created_at, order.ref),
        _symbol(advance, order.feed), order.feed, order.side, order.exectype, text_of(order.size),
        text_or_none(order.price), text_or_none(order.pricelimit), order.status, order.created_at, bar,
        text_of(order.executed_size), text_of(order.executed_price), order.executed_at,
        text_of(order.commission), text_of(order.pnl), order.tradeid, order.parent, _info_text(order.info),
    )  # fmt: skip


def _info_text(info: Mapping[str, str]) -> str:
    return json.dumps(dict(info)) if info else "{}"


def _trade_row(advance: "Advance", trade: "TradeEvent") -> tuple[Any, ...]:
    if trade.exit_price is None or trade.closed_at is None:
        raise ValueError(f"trade {trade.ref} of bot {advance.bot_id} is closed without price or bar")
    return (
        advance.bot_id, trade.ref, _symbol(advance, trade.feed), trade.feed, _side(trade),
        text_of(abs(trade.entry_size)), trade.opened_at, trade.opened_at, text_of(trade.entry_price),
        trade.closed_at, trade.closed_at, text_of(trade.exit_price), trade.entry_order, trade.exit_order,
        text_of(trade.commission), text_of(trade.pnl), text_of(trade.pnlcomm), trade.entry_info.get("logic"),
        trade.exit_info.get("logic"), trade.exit_info.get("reason"), trade.bars,
    )  # fmt: skip


def _position_row(advance: "Advance", trade: "TradeEvent") -> tuple[Any, ...]:
    return (
        advance.bot_id, trade.ref, _symbol(advance, trade.feed), trade.feed, _side(trade),
        text_of(abs(trade.size)), text_of(trade.entry_price), trade.opened_at, trade.closed_at,
    )  # fmt: skip


def _side(trade: "TradeEvent") -> str:
    return "long" if trade.is_long else "short"


def _held_rows(advance: "Advance") -> list[tuple[Any, ...]]:
    """Return (bot, feed, quantity, price) of feeds on which orders were executed and a position is left.

    A trade says nothing while it is open, however often it grows or shrinks.
    """
    touched = {order.feed for _, step, *_ in advance.steps for order in step.orders if order.executed_size}
    last = advance.steps[-1][1]
    return [
        (text_of(abs(each.size)), text_of(each.price), advance.bot_id, each.feed)
        for each in last.positions
        if each.feed in touched
    ]


def _follow_positions(transaction: Transaction, held: Sequence[tuple[Any, ...]]) -> None:
    """Set quantity and price of a feed's one open position. With several trades at once it is theirs only."""
    if not held:
        return
    marks = ("?",) * 4 if is_sqlite(transaction) else ("%s",) * 4
    transaction.exec_driver_sql(
        "UPDATE trading_positions SET quantity = CAST({} AS {kind}), price = CAST({} AS {kind})"
        " WHERE bot_id = {} AND feed = {} AND closed_bar IS NULL"
        " AND (SELECT count(*) FROM trading_positions p WHERE p.bot_id = trading_positions.bot_id"
        " AND p.feed = trading_positions.feed AND p.closed_bar IS NULL) = 1".format(
            *marks, kind="TEXT" if is_sqlite(transaction) else "NUMERIC"
        ),
        list(held),
    )


def read_trades(transaction: Transaction, bot_id: int, limit: int | None = None) -> tuple[TradeRow, ...]:
    """Return closed trades, newest first."""
    return tuple(
        TradeRow(*_decimals(row, (5, 7, 9, 12, 13, 14)))
        for row in _of_bot(
            transaction,
            "SELECT bot_id, number, symbol, feed, side, quantity, entry_bar, entry_price, exit_bar, exit_price,"
            " entry_order, exit_order, commission, gross_pnl, net_pnl, entry_logic, exit_logic, exit_reason, bars"
            " FROM trading_trades WHERE bot_id = :id ORDER BY number DESC LIMIT :limit",
            bot_id,
            limit,
        )
    )


def read_steps(transaction: Transaction, bot_id: int, limit: int | None = None) -> tuple[StepRow, ...]:
    """Return steps, newest first."""
    at = ms_of("decided_at", transaction.dialect.name)
    return tuple(
        StepRow(*_decimals(row, (3, 4)))
        for row in _of_bot(
            transaction,
            "SELECT bot_id, bar, version, cash, equity, positions, orders, trades,"  # noqa: S608 -- constants
            f" {at}, took_ms FROM bot_steps WHERE bot_id = :id ORDER BY bar DESC LIMIT :limit",
            bot_id,
            limit,
        )
    )


def read_orders(transaction: Transaction, bot_id: int, limit: int | None = None) -> tuple[OrderRow, ...]:
    """Return orders, newest first."""
    return tuple(
        OrderRow(*_decimals(row, (7, 8, 9, 13, 14, 16, 17)))
        for row in _of_bot(
            transaction,
            "SELECT bot_id, number, client_order_id, symbol, feed, side, exectype, size, price, pricelimit, status,"
            " bar, updated_bar, executed_size, executed_price, executed_bar, commission, pnl, tradeid, parent, info"
            " FROM orders WHERE bot_id = :id ORDER BY number DESC LIMIT :limit",
            bot_id,
            limit,
        )
    )


def open_positions(
    transaction: Transaction, bot_ids: Collection[int] | None = None
) -> dict[int, tuple[PositionRow, ...]]:
    """Return bot id -> its open positions, of bots that exist and hold any."""
    some = "" if bot_ids is None else f" AND p.bot_id {in_ids(transaction)}"
    rows = run(
        transaction,
        "SELECT p.bot_id, p.number, p.symbol, p.feed, p.side, p.quantity, p.price, p.opened_bar, p.closed_bar"  # noqa: S608 -- constants
        " FROM trading_positions p JOIN trading_bots b ON b.id = p.bot_id"
        f" WHERE p.closed_bar IS NULL{some} ORDER BY p.bot_id, p.number",
        {} if bot_ids is None else {"ids": ids_of(transaction, bot_ids)},
    )
    positions: dict[int, tuple[PositionRow, ...]] = {}
    for row in rows:
        position = PositionRow(*_decimals(row, (5, 6)))
        positions[position.bot_id] = (*positions.get(position.bot_id, ()), position)
    return positions


def _of_bot(transaction: Transaction, sql: str, bot_id: int, limit: int | None) -> Iterable[Any]:
    return run(transaction, sql, {"id": bot_id, "limit": 2**62 if limit is None else limit})


def _decimals(row: Iterable[Any], places: Collection[int]) -> list[Any]:
    values = list(row)
    for place in places:
        found = values[place]
        values[place] = found if isinstance(found, Decimal) else read_money(found)
    return values
