"""The owner of what steps leave behind: bot_steps, orders, trading_trades, trading_positions.

Written set-wise by `persistence.ledger.steps`, after its guard. Read by `persistence.ledger.history`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from persistence.database_errors import UnsavableStep
from persistence.ledger.advance import Advance
from persistence.money import text_of, text_or_none
from persistence.setwise import Target, write_rows
from persistence.transaction import Transaction, is_sqlite
from strategies.values import OrderEvent, Step, TradeEvent

Cells = tuple[Any, ...]

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
        ("bot_id", "int"), ("number", "int"), ("client_order_id", "text"), ("symbol", "text"),
        ("feed", "text"), ("side", "text"), ("exectype", "text"), ("size", "money"), ("price", "money"),
        ("pricelimit", "money"), ("status", "text"), ("bar", "int"), ("updated_bar", "int"),
        ("executed_size", "money"), ("executed_price", "money"), ("executed_bar", "int"),
        ("commission", "money"), ("pnl", "money"), ("tradeid", "int"), ("parent", "int"), ("info", "text"),
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


@dataclass(slots=True)
class Pages:
    """The rows of a bot. What is said twice of an order, trade or position is kept as it was said last."""

    steps: list[Cells] = field(default_factory=list)
    orders: dict[int, Cells] = field(default_factory=dict)
    trades: dict[int, Cells] = field(default_factory=dict)
    positions: dict[int, Cells] = field(default_factory=dict)
    held: list[Cells] = field(default_factory=list)


def pages_of(advance: Advance, now_ms: int) -> Pages:
    """Return the rows of an advance. Raises UnsavableStep for what has no place in the ledger."""
    pages = Pages(steps=list(_step_rows(advance, now_ms)), held=_held_rows(advance))
    for done in advance.steps:
        for order in done.step.orders:
            pages.orders[order.ref] = _order_row(advance, done.bar, order)
        for trade in done.step.trades:
            pages.positions[trade.ref] = _position_row(advance, trade)
            if not trade.is_open:
                pages.trades[trade.ref] = _trade_row(advance, trade)
    return pages


def write_pages(transaction: Transaction, pages: Sequence[Pages]) -> None:
    """Write what the steps did. The caller's guard has made sure that it is not there yet."""
    write_rows(transaction, STEPS, [row for each in pages for row in each.steps])
    write_rows(transaction, ORDERS, [row for each in pages for row in each.orders.values()])
    write_rows(transaction, TRADES, [row for each in pages for row in each.trades.values()])
    write_rows(transaction, POSITIONS, [row for each in pages for row in each.positions.values()])
    _follow_positions(transaction, [row for each in pages for row in each.held])


def _step_rows(advance: Advance, now_ms: int) -> Iterable[Cells]:
    took_ms = advance.took_ms / len(advance.steps)
    for version, done in enumerate(advance.steps, advance.from_version + 1):
        step = done.step
        yield (
            advance.bot_id, done.bar, version, text_of(step.cash), text_of(step.value), _positions_text(step),
            len({order.ref for order in step.orders}), sum(not trade.is_open for trade in step.trades),
            done.trading, now_ms, took_ms,
        )  # fmt: skip


def _positions_text(step: Step) -> str:
    if not step.positions:
        return "{}"
    return json.dumps({each.feed: [text_of(each.size), text_of(each.price)] for each in step.positions})


def _symbol(advance: Advance, feed: str) -> str:
    return (advance.symbols or {}).get(feed, advance.symbol)


def _order_row(advance: Advance, bar: int, order: OrderEvent) -> Cells:
    return (
        advance.bot_id, order.ref, client_order_id(advance.bot_id, order.created_at, order.ref),
        _symbol(advance, order.feed), order.feed, order.side, order.exectype, text_of(order.size),
        text_or_none(order.price), text_or_none(order.pricelimit), order.status, order.created_at, bar,
        text_of(order.executed_size), text_of(order.executed_price), order.executed_at,
        text_of(order.commission), text_of(order.pnl), order.tradeid, order.parent, _info_text(order.info),
    )  # fmt: skip


def _info_text(info: Mapping[str, str]) -> str:
    return json.dumps(dict(info)) if info else "{}"


def _trade_row(advance: Advance, trade: TradeEvent) -> Cells:
    if trade.exit_price is None or trade.closed_at is None:
        raise UnsavableStep(advance.bot_id, f"trade {trade.ref} is closed without price or bar")
    return (
        advance.bot_id, trade.ref, _symbol(advance, trade.feed), trade.feed, _side(trade),
        text_of(abs(trade.entry_size)), trade.opened_at, trade.opened_at, text_of(trade.entry_price),
        trade.closed_at, trade.closed_at, text_of(trade.exit_price), trade.entry_order, trade.exit_order,
        text_of(trade.commission), text_of(trade.pnl), text_of(trade.pnlcomm), trade.entry_info.get("logic"),
        trade.exit_info.get("logic"), trade.exit_info.get("reason"), trade.bars,
    )  # fmt: skip


def _position_row(advance: Advance, trade: TradeEvent) -> Cells:
    return (
        advance.bot_id, trade.ref, _symbol(advance, trade.feed), trade.feed, _side(trade),
        text_of(abs(trade.size)), text_of(trade.entry_price), trade.opened_at, trade.closed_at,
    )  # fmt: skip


def _side(trade: TradeEvent) -> str:
    return "long" if trade.is_long else "short"


def _held_rows(advance: Advance) -> list[Cells]:
    """Return (bot, feed, quantity, price) of feeds on which orders were executed and a position is left.

    A trade says nothing while it is open, however often it grows or shrinks.
    """
    touched = {order.feed for done in advance.steps for order in done.step.orders if order.executed_size}
    last = advance.steps[-1].step
    return [
        (text_of(abs(each.size)), text_of(each.price), advance.bot_id, each.feed)
        for each in last.positions
        if each.feed in touched
    ]


def _follow_positions(transaction: Transaction, held: Sequence[Cells]) -> None:
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
