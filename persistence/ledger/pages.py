"""The owner of what steps leave behind: bot_steps, orders, trading_trades, trading_positions.

Written set-wise by `persistence.ledger.steps`, after its guard. Read by `persistence.ledger.history`.

Every number in a key is the bot's own (its bars, its orders, its trades), none is the database's: the
same bars make the same rows, whichever run wrote them and however it cut them into transactions. The
rows are all made before the first statement runs, so that a step which the ledger cannot hold is found
while nothing of its batch is written.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from persistence.database_errors import UnsavableStep
from persistence.ledger.advance import Advance, Stepped
from persistence.money import money, money_or_none, plain_text, text_of
from persistence.rows import ORDERS, POSITIONS, STEPS, TRADES, OrderRow, PositionRow, StepRow, TradeRow
from persistence.setwise import insert, upsert
from persistence.transaction import Transaction, is_sqlite, run_many
from strategies.values import OrderEvent, Step, TradeEvent

# Decided once, at the first notification; a later one speaks of a later bar.
DECIDED_ONCE: Final = ("client_order_id", "bar")


def client_order_id(bot_id: int, bar: int, number: int) -> str:
    """Return the id that the order has at an exchange; it can be computed again after any crash.

    At most 36 characters of letters, digits and dashes, which all venues take. A bot's id is never
    used again, nor an order's number within it.
    """
    return f"ob-{bot_id}-{bar // 1_000}-{number}"


@dataclass(frozen=True, slots=True)
class Holding:
    """What a bot holds on a feed after its last step: quantity without a sign, average price."""

    bot_id: int
    feed: str
    quantity: Decimal
    price: Decimal


@dataclass(slots=True)
class Pages:
    """The rows of a bot. What is said twice of an order, trade or position is kept as it was said last."""

    steps: list[StepRow] = field(default_factory=list)
    orders: dict[int, OrderRow] = field(default_factory=dict)
    trades: dict[int, TradeRow] = field(default_factory=dict)
    positions: dict[int, PositionRow] = field(default_factory=dict)
    held: list[Holding] = field(default_factory=list)


def pages_of(advance: Advance, now_ms: int) -> Pages:
    """Return the rows of an advance. Raises UnsavableStep for what has no place in the ledger."""
    pages = Pages(held=_held(advance))
    took_ms = advance.took_ms / len(advance.steps)
    for version, done in enumerate(advance.steps, advance.from_version + 1):
        pages.steps.append(_step_row(advance.bot_id, version, done, now_ms, took_ms))
        for order in done.step.orders:
            pages.orders[order.ref] = _order_row(advance, done.bar, order)
        for trade in done.step.trades:
            pages.positions[trade.ref] = _position_row(advance, trade)
            if not trade.is_open:
                pages.trades[trade.ref] = _trade_row(advance, trade)
    return pages


def write_pages(transaction: Transaction, pages: Sequence[Pages]) -> None:
    """Write what the steps did. The caller's guard has made sure that it is not there yet."""
    insert(transaction, STEPS, [row for page in pages for row in page.steps])
    orders = [row for page in pages for row in page.orders.values()]
    upsert(transaction, ORDERS, orders, keep=DECIDED_ONCE)
    upsert(transaction, TRADES, [row for page in pages for row in page.trades.values()])
    upsert(transaction, POSITIONS, [row for page in pages for row in page.positions.values()])
    # Last, because a position that grew may have been opened a line above.
    _follow_positions(transaction, [row for page in pages for row in page.held])


def _step_row(bot_id: int, version: int, done: Stepped, now_ms: int, took_ms: float) -> StepRow:
    step = done.step
    return StepRow(
        bot_id=bot_id,
        bar=done.bar,
        version=version,
        cash=money(step.cash),
        equity=money(step.value),
        positions=_positions_text(step),
        orders=len({order.ref for order in step.orders}),  # an order may be told of several times
        trades=len([trade for trade in step.trades if not trade.is_open]),
        trading=done.trading,
        decided_at=now_ms,
        took_ms=took_ms,
    )


def _positions_text(step: Step) -> str:
    if not step.positions:  # as nearly always
        return "{}"
    return json.dumps({held.feed: [text_of(held.size), text_of(held.price)] for held in step.positions})


def _symbol(advance: Advance, feed: str) -> str:
    return (advance.symbols or {}).get(feed, advance.symbol)


def _order_row(advance: Advance, bar: int, order: OrderEvent) -> OrderRow:
    return OrderRow(
        bot_id=advance.bot_id,
        number=order.ref,
        client_order_id=client_order_id(advance.bot_id, order.created_at, order.ref),
        symbol=_symbol(advance, order.feed),
        feed=order.feed,
        side=order.side,
        exectype=order.exectype,
        size=money(order.size),
        price=money_or_none(order.price),
        pricelimit=money_or_none(order.pricelimit),
        status=order.status,
        bar=order.created_at,
        updated_bar=bar,
        executed_size=money(order.executed_size),
        executed_price=money(order.executed_price),
        executed_bar=order.executed_at,
        commission=money(order.commission),
        pnl=money(order.pnl),
        tradeid=order.tradeid,
        parent=order.parent,
        info=json.dumps(dict(order.info)) if order.info else "{}",
    )


def _trade_row(advance: Advance, trade: TradeEvent) -> TradeRow:
    if trade.exit_price is None or trade.closed_at is None:
        raise UnsavableStep(advance.bot_id, f"trade {trade.ref} is closed without price or bar")
    return TradeRow(
        bot_id=advance.bot_id,
        number=trade.ref,
        symbol=_symbol(advance, trade.feed),
        feed=trade.feed,
        side=_side(trade),
        quantity=money(abs(trade.entry_size)),
        entry_bar=trade.opened_at,
        entry_time=trade.opened_at,
        entry_price=money(trade.entry_price),
        exit_bar=trade.closed_at,
        exit_time=trade.closed_at,
        exit_price=money(trade.exit_price),
        entry_order=trade.entry_order,
        exit_order=trade.exit_order,
        commission=money(trade.commission),
        gross_pnl=money(trade.pnl),
        net_pnl=money(trade.pnlcomm),
        entry_logic=trade.entry_info.get("logic"),
        exit_logic=trade.exit_info.get("logic"),
        exit_reason=trade.exit_info.get("reason"),
        bars=trade.bars,
    )


def _position_row(advance: Advance, trade: TradeEvent) -> PositionRow:
    return PositionRow(
        bot_id=advance.bot_id,
        number=trade.ref,
        symbol=_symbol(advance, trade.feed),
        feed=trade.feed,
        side=_side(trade),
        quantity=money(abs(trade.size)),
        price=money(trade.entry_price),
        opened_bar=trade.opened_at,
        closed_bar=trade.closed_at,
    )


def _side(trade: TradeEvent) -> str:
    return "long" if trade.is_long else "short"


def _held(advance: Advance) -> list[Holding]:
    """Return what is held on feeds on which orders were executed.

    A trade says nothing while it is open, however often it grows or shrinks: what the position has
    become is known from the step's own list.
    """
    touched = {order.feed for done in advance.steps for order in done.step.orders if order.executed_size}
    return [
        Holding(advance.bot_id, held.feed, money(abs(held.size)), money(held.price))
        for held in advance.steps[-1].step.positions
        if held.feed in touched
    ]


def _follow_positions(transaction: Transaction, held: Sequence[Holding]) -> None:
    """Set quantity and price of a feed's one open position. With several trades at once it is theirs only."""
    number = "TEXT" if is_sqlite(transaction) else "NUMERIC"
    parameters: list[dict[str, Any]] = [
        {
            "bot_id": holding.bot_id,
            "feed": holding.feed,
            "quantity": plain_text(holding.quantity),
            "price": plain_text(holding.price),
        }
        for holding in held
    ]
    run_many(
        transaction,
        f"UPDATE trading_positions SET quantity = CAST(:quantity AS {number}),"
        f" price = CAST(:price AS {number}) WHERE bot_id = :bot_id AND feed = :feed AND closed_bar IS NULL"
        " AND (SELECT count(*) FROM trading_positions p WHERE p.bot_id = trading_positions.bot_id"
        " AND p.feed = trading_positions.feed AND p.closed_bar IS NULL) = 1",
        parameters,
    )
