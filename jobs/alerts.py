"""Which alerts a committed bar owes its owner, as rows of the outbox: they leave in a job of their own.

The key is derived from bot, bar and place in the bar, so a bar that is decided again after a crash
owes the same alert and not a second one. They are written in the transaction of the bar that they tell of:
an alert without its trade, or a trade without its alert, is seen by nobody.
"""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from persistence.notifications import Notification
from persistence.rows import Bot
from strategies.config import BotConfig
from strategies.values import OrderEvent, Step, TradeEvent

SMALLEST_IN_FOUR_PLACES: Final = 0.001


def alerts_of(bot_id: int, config: BotConfig, bar: int, step: Step) -> tuple[Notification, ...]:
    texts = (*_opened(config, step), *_closed(config, step), *_refused(config, step))
    return tuple(
        Notification(
            key=f"{bot_id}:{bar}:{number}", bot_id=bot_id, bar=bar, kind=kind, title=config.name, body=body
        )
        for number, (kind, body) in enumerate(texts)
    )


def owner_alert(bot_id: int, key: str, name: str, message: str, kind: str = "error") -> Notification:
    """Return what the owner has to be told apart from trades; `key` makes it said once."""
    return Notification(
        key=f"{bot_id}:{key}", bot_id=bot_id, bar=None, kind=kind, title=name, body=f"[{name}] {message}"
    )


def name_of(bot: Bot) -> str:
    """Return what a bot's owner calls it, also where its configuration is not valid."""
    try:
        found = json.loads(bot.config)
        name = found.get("name") or found.get("id")
    except (ValueError, RecursionError, AttributeError):
        name = None
    return name if isinstance(name, str) else f"bot {bot.id}"


def _opened(config: BotConfig, step: Step) -> Iterator[tuple[str, str]]:
    if not config.notifications.position_opened:
        return
    entries = {trade.entry_order for trade in step.trades if trade.is_open}
    for order in step.orders:
        if order.status == "Completed" and order.ref in entries:
            size = f"{order.side.upper()} {_quantity(order.executed_size)} {config.symbol}"
            yield "position_opened", f"[{config.name}] {size} @ {_price(order.executed_price)}{_mode(config)}"


def _closed(config: BotConfig, step: Step) -> Iterator[tuple[str, str]]:
    if not config.notifications.position_closed:
        return
    for trade in step.trades:
        if not trade.is_open:
            yield "position_closed", _closed_line(config, trade)


def _refused(config: BotConfig, step: Step) -> Iterator[tuple[str, str]]:
    if not config.notifications.risk_alerts:
        return
    for order in step.orders:
        if order.status in {"Margin", "Rejected"}:
            size = f"{order.side.upper()} {_quantity(order.size)} {config.symbol}"
            yield "risk", f"[{config.name}] {size} REFUSED: {_why(order)}{_mode(config)}"


def _why(order: OrderEvent) -> str:
    if order.status == "Margin":
        return "not enough cash"
    # Without refused_by, the reason is the strategy's for wanting the order.
    return order.info.get("reason", "") if "refused_by" in order.info else "by the broker"


def _closed_line(config: BotConfig, trade: TradeEvent) -> str:
    side = "SELL" if trade.is_long else "BUY"
    invested = abs(trade.entry_size * trade.entry_price)
    percent = 100 * trade.pnlcomm / invested if invested else 0.0
    price = _price(trade.exit_price) if trade.exit_price is not None else "?"
    gain = f"P&L: {_money(trade.pnlcomm)} / {percent:+.2f}%"
    head = f"[{config.name}] {side} {_quantity(trade.entry_size)} {config.symbol}"
    return f"{head} @ {price} ({gain}){_mode(config)}"


def _mode(config: BotConfig) -> str:
    return " (Paper Trading)" if config.broker.trading_mode == "paper" else ""


def _quantity(size: float) -> str:
    """Four places as people are used to, more where four would hide the size."""
    if abs(size) >= SMALLEST_IN_FOUR_PLACES:
        return f"{abs(size):.4f}"
    return f"{Decimal(f'{abs(size):.6g}'):f}"


def _price(price: float) -> str:
    return f"${price:,.2f}" if price >= 1 else f"${Decimal(f'{price:.6g}'):f}"


def _money(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 0 else f"-${-amount:,.2f}"
