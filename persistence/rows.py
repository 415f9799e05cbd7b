"""What rows are once they have been read: frozen values. Imports neither SQLAlchemy nor Backtrader.

Moments (`started_at`, `created_at`, ...) and bars are ms since the epoch, UTC. Money is Decimal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

STATUSES: Final = ("stopped", "starting", "running", "paused", "error", "stopping")

# Legal moves of a bot's status. The flags `enabled` and `paused` say what is wanted, the status what is.
MOVES: Final[Mapping[str, frozenset[str]]] = {
    "stopped": frozenset({"starting", "running", "paused", "error"}),
    "starting": frozenset({"running", "paused", "error", "stopping", "stopped"}),
    "running": frozenset({"starting", "paused", "error", "stopping", "stopped"}),
    "paused": frozenset({"starting", "running", "error", "stopping", "stopped"}),
    "error": frozenset({"starting", "paused", "stopped"}),
    # A process that was killed while it stopped leaves this behind; the next start takes it from there.
    "stopping": frozenset({"stopped", "starting", "paused", "error"}),
}

# What `notify_order` can say of an order, and what a venue's order goes through (DESIGN: orders).
ORDER_STATUSES: Final = (
    "Created", "Submitted", "Accepted", "Partial", "Completed", "Canceled", "Expired", "Margin", "Rejected",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bot:
    """A row of `trading_bots`. `config` is JSON text as it stands there, not yet validated."""

    id: int
    user_id: int
    type: str
    enabled: bool
    paused: bool
    status: str
    schedule: str | None
    config: str
    revision: int
    started_at: int | None
    stopped_at: int | None
    resumed_at: int | None
    last_heartbeat: int | None
    error_count: int
    last_error: str | None
    retry_at: int | None
    current_balance: Decimal | None
    total_pnl: Decimal
    description: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class TradeRow:
    """A closed round trip of `trading_trades`. Quantity is unsigned, in base currency."""

    bot_id: int
    number: int
    symbol: str
    feed: str
    side: str  # long or short
    quantity: Decimal
    entry_bar: int
    entry_price: Decimal
    exit_bar: int
    exit_price: Decimal
    entry_order: int
    exit_order: int | None
    commission: Decimal
    gross_pnl: Decimal
    net_pnl: Decimal
    entry_logic: str | None
    exit_logic: str | None
    exit_reason: str | None
    bars: int


@dataclass(frozen=True, slots=True)
class PositionRow:
    """A row of `trading_positions`; `closed_bar` is None while it is open."""

    bot_id: int
    number: int
    symbol: str
    feed: str
    side: str
    quantity: Decimal
    price: Decimal
    opened_bar: int
    closed_bar: int | None


@dataclass(frozen=True, slots=True)
class OrderRow:
    """A row of `orders`; sizes are signed as in Backtrader, `info` is JSON text."""

    bot_id: int
    number: int
    client_order_id: str
    symbol: str
    feed: str
    side: str
    exectype: str
    size: Decimal
    price: Decimal | None
    pricelimit: Decimal | None
    status: str
    bar: int
    updated_bar: int
    executed_size: Decimal
    executed_price: Decimal
    executed_bar: int | None
    commission: Decimal
    pnl: Decimal
    tradeid: int
    parent: int | None
    info: str


@dataclass(frozen=True, slots=True)
class StepRow:
    """A row of `bot_steps`. `positions` is JSON text: {feed: [size, price]}."""

    bot_id: int
    bar: int
    version: int
    cash: Decimal
    equity: Decimal
    positions: str
    orders: int
    trades: int
    decided_at: int
    took_ms: float


@dataclass(frozen=True, slots=True)
class Overview:
    """One line of a list of bots: the row, its cursor, and its last step (None before the first)."""

    bot: Bot
    version: int
    last_bar: int | None
    equity: Decimal | None
    decided_at: int | None
    took_ms: float | None
    positions: tuple[PositionRow, ...]
