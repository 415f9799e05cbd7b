"""Rows as the data of schema `jobs/v1`: what `--json`, jsonl and csv give to programs.

Times are ISO 8601 UTC, money is text (a float would lose digits), lengths are ms. Fields are only
ever added; see docs/commands.md.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from jobs.command.moments import iso
from jobs.desk.looking import Timing, state_of
from jobs.desk.outline import Outline, masked, outline
from persistence.rows import Overview, PositionRow, StepRow, TradeRow

SCHEMA: Final = "jobs/v1"


def document(kind: str, **content: Any) -> Mapping[str, Any]:
    return {"schema": SCHEMA, "kind": kind, **content}


def unrealized(overview: Overview, seen: Outline) -> Decimal | None:
    """Equity that is neither the cash of the beginning nor won by closed trades."""
    if overview.bot.current_balance is None or seen.cash is None:
        return None
    if not (overview.bot.current_balance.is_finite() and overview.bot.total_pnl.is_finite()):
        return None
    return overview.bot.current_balance - seen.cash - overview.bot.total_pnl


def bot_document(overview: Overview, timing: Timing) -> dict[str, Any]:
    bot, seen = overview.bot, outline(overview.bot.config)
    return {
        "id": bot.id,
        "name": seen.name,
        "symbol": seen.symbol,
        "interval": seen.interval,
        "state": state_of(bot),
        "status": bot.status,
        "enabled": bot.enabled,
        "paused": bot.paused,
        "last_bar": _time(overview.last_bar),
        "last_step_at": _time(overview.decided_at),
        "took_ms": overview.took_ms,
        "next_at": _time(timing.next_moment(bot, seen.interval)),
        "lag_ms": timing.lag(overview, seen.length),
        "error_count": bot.error_count,
        "last_error": bot.last_error,
        "retry_at": _time(bot.retry_at),
        "strategy": seen.strategy,
        "mode": bot.type,
        "schedule": bot.schedule,
        "positions": [position_document(position) for position in overview.positions],
        "equity": _money(bot.current_balance),
        "realized_pnl": _money(bot.total_pnl),
        "unrealized_pnl": _money(unrealized(overview, seen)),
        "bars": overview.version,
        "revision": bot.revision,
        "user_id": bot.user_id,
        "description": bot.description,
    }


def whole_bot_document(overview: Overview, timing: Timing) -> dict[str, Any]:
    bot = overview.bot
    return {
        **bot_document(overview, timing),
        "started_at": _time(bot.started_at),
        "stopped_at": _time(bot.stopped_at),
        "resumed_at": _time(bot.resumed_at),
        "last_heartbeat": _time(bot.last_heartbeat),
        "created_at": _time(bot.created_at),
        "updated_at": _time(bot.updated_at),
        "config": masked(bot.config),
    }


def position_document(row: PositionRow) -> dict[str, Any]:
    return {
        "symbol": row.symbol,
        "side": row.side,
        "quantity": _money(row.quantity),
        "price": _money(row.price),
        "opened_bar": _time(row.opened_bar),
    }


def trade_document(row: TradeRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "symbol": row.symbol,
        "side": row.side,
        "quantity": _money(row.quantity),
        "entry_bar": _time(row.entry_bar),
        "entry_price": _money(row.entry_price),
        "exit_bar": _time(row.exit_bar),
        "exit_price": _money(row.exit_price),
        "bars": row.bars,
        "commission": _money(row.commission),
        "gross_pnl": _money(row.gross_pnl),
        "net_pnl": _money(row.net_pnl),
        "entry_logic": row.entry_logic,
        "exit_logic": row.exit_logic,
        "exit_reason": row.exit_reason,
        "entry_order": row.entry_order,
        "exit_order": row.exit_order,
    }


def step_document(row: StepRow) -> dict[str, Any]:
    return {
        "bar": _time(row.bar),
        "version": row.version,
        "cash": _money(row.cash),
        "equity": _money(row.equity),
        "positions": _positions(row.positions),
        "orders": row.orders,
        "trades": row.trades,
        "decided_at": _time(row.decided_at),
        "took_ms": row.took_ms,
    }


def _positions(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # damaged: shown as it stands
        return text


def _time(moment: int | None) -> str | None:
    return None if moment is None else iso(moment)


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")
