"""Rows for people: the columns of the tables, and what stands in them."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from jobs.command.documents import unrealized
from jobs.command.moments import Style, bar_name, shown, span, took
from jobs.command.table import Column
from jobs.desk.looking import Timing, state_of
from jobs.desk.outline import Outline
from persistence.money import EXACT
from persistence.rows import Overview, PositionRow, StepRow, TradeRow

CENT: Final = Decimal("0.01")

BOT_COLUMNS: Final = (
    Column("ID", right=True),
    Column("BOT"),
    Column("SYMBOL"),
    Column("TF"),
    Column("STATE"),
    Column("LAST BAR"),
    Column("LAST"),
    Column("TOOK", right=True),
    Column("NEXT"),
    Column("IN", right=True),
    Column("FAILS", right=True),
)
MORE_BOT_COLUMNS: Final = (
    Column("STRATEGY"),
    Column("MODE"),
    Column("POSITION"),
    Column("UNREAL.PNL", right=True),
    Column("EQUITY", right=True),
    Column("PNL", right=True),
    Column("LAG", right=True),
    Column("BARS", right=True),
    Column("REV", right=True),
    Column("ERROR"),
)
TRADE_COLUMNS: Final = (
    Column("NO", right=True),
    Column("SYMBOL"),
    Column("SIDE"),
    Column("QUANTITY", right=True),
    Column("ENTRY"),
    Column("PRICE", right=True),
    Column("EXIT"),
    Column("PRICE", right=True),
    Column("BARS", right=True),
    Column("NET PNL", right=True),
    Column("REASON"),
)
STEP_COLUMNS: Final = (
    Column("BAR"),
    Column("DECIDED"),
    Column("TOOK", right=True),
    Column("CASH", right=True),
    Column("EQUITY", right=True),
    Column("POSITION"),
    Column("ORDERS", right=True),
    Column("TRADES", right=True),
)


def bot_cells(overview: Overview, seen: Outline, timing: Timing, style: Style) -> list[str]:
    now, following = timing.now, timing.next_moment(overview.bot, seen.interval)
    return [
        str(overview.bot.id),
        seen.name,
        seen.symbol,
        seen.interval,
        state_of(overview.bot),
        bar_name(overview.last_bar, now, style),
        shown(overview.decided_at, now, style),
        took(overview.took_ms),
        # The settling delay would put a fraction of a second behind every time.
        bar_name(None if following is None else following - following % 1_000, now, style),
        "-" if following is None else span(following - now),
        str(overview.bot.error_count),
    ]


def more_bot_cells(overview: Overview, seen: Outline, timing: Timing) -> list[str]:
    lag = timing.lag(overview, seen.length)
    return [
        seen.strategy,
        overview.bot.type,
        held(overview.positions),
        cents(unrealized(overview, seen)),
        cents(overview.bot.current_balance),
        cents(overview.bot.total_pnl),
        "-" if lag is None else span(lag),
        str(overview.version),
        str(overview.bot.revision),
        _cut(overview.bot.last_error or "; ".join(overview.bot.broken) or "-"),
    ]


def trade_cells(row: TradeRow, now: int, style: Style) -> list[str]:
    return [
        str(row.number),
        row.symbol,
        row.side,
        _digits(row.quantity),
        bar_name(row.entry_bar, now, style),
        _digits(row.entry_price),
        bar_name(row.exit_bar, now, style),
        _digits(row.exit_price),
        str(row.bars),
        cents(row.net_pnl),
        _damage(row.broken) or row.exit_reason or row.exit_logic or "-",
    ]


def step_cells(row: StepRow, now: int, style: Style) -> list[str]:
    return [
        bar_name(row.bar, now, style),
        shown(row.decided_at, now, style),
        took(row.took_ms),
        cents(row.cash),
        cents(row.equity),
        _damage(row.broken) or _sizes(row.positions),
        str(row.orders),
        str(row.trades),
    ]


def _sizes(positions: str) -> str:
    try:
        held: Mapping[str, Any] = json.loads(positions)
        return ", ".join(f"{_digits(Decimal(str(size)))} {feed}" for feed, (size, _) in held.items()) or "-"
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return _damage((f"positions: found {positions}, allowed: JSON, {{feed: [size, price]}}",))


def _damage(broken: tuple[str, ...]) -> str:
    return _cut(f"damaged: {'; '.join(broken)}") if broken else ""


def cents(amount: Decimal | None) -> str:
    if amount is None:
        return "-"
    if not amount.is_finite():
        return str(amount)
    rounded = amount.quantize(CENT, context=EXACT)
    return format(rounded or CENT - CENT, "f")  # no -0.00


def _digits(amount: Decimal) -> str:
    """Write at most eight decimals, which is what exchanges show; --json has all of them."""
    return f"{amount:.8f}".rstrip("0").rstrip(".")


def held(rows: Sequence[PositionRow]) -> str:
    return ", ".join(f"{row.side} {_digits(row.quantity)} @ {_digits(row.price)}" for row in rows) or "-"


def _cut(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
