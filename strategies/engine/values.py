"""What goes into a step of the engine and what comes out: frozen values, nothing that can change.

Prices and sizes are the doubles that Backtrader computes with; who writes them into a ledger
turns them into `Decimal(repr(x))`, which loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from strategies.intervals import INTERVAL_UNITS_MS, interval_ms

__all__ = [
    "INTERVAL_UNITS_MS", "Bar", "Feed", "OrderEvent", "Position", "Step", "TradeEvent", "interval_ms",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bar:
    """One closed interval. `open_time` in ms since the epoch, UTC; prices in quote currency."""

    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class Feed:
    """The bars of one symbol and interval, under the name that the strategy sees."""

    name: str
    interval: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """What one notification said of one order, as `notify_order` sees it.

    `ref` and `tradeid` are the bot's own numbers (the first order of a bot is 1).
    Sizes are in base currency and signed as in Backtrader (a sale is negative).
    """

    ref: int
    feed: str
    status: str  # Submitted, Accepted, Partial, Completed, Canceled, Expired, Margin, Rejected
    side: str  # buy or sell
    exectype: str  # Market, Close, Limit, Stop, StopLimit, StopTrail, StopTrailLimit
    size: float
    price: float | None
    pricelimit: float | None
    created_at: int  # ms, stamp of the bar that decided it
    executed_size: float
    executed_price: float
    executed_at: int | None  # ms, stamp of the bar of the last execution
    commission: float
    pnl: float
    tradeid: int
    parent: int | None = None
    info: Mapping[str, str] = field(default_factory=dict)  # order.info, plain values as text


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeEvent:
    """What one notification said of one trade (a round trip), as `notify_trade` sees it."""

    ref: int
    feed: str
    tradeid: int
    is_open: bool
    is_long: bool
    size: float  # now; 0.0 once closed
    entry_size: float  # largest size that the round trip held, signed
    entry_price: float  # average, quote currency
    exit_price: float | None  # average over what was closed
    opened_at: int  # ms, stamp of the bar
    closed_at: int | None
    bars: int  # bars the position was held
    commission: float
    pnl: float  # gross
    pnlcomm: float  # net
    entry_order: int  # ref of the order that opened it
    exit_order: int | None  # ref of the last order that reduced it
    entry_info: Mapping[str, str] = field(default_factory=dict)  # info of entry_order
    exit_info: Mapping[str, str] = field(default_factory=dict)  # info of exit_order


@dataclass(frozen=True, slots=True)
class Position:
    """Quantity (base currency, signed) and average price of one feed; flat positions are left out."""

    feed: str
    size: float
    price: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one bar did. `state` is what the next step starts from."""

    state: bytes
    orders: tuple[OrderEvent, ...]
    trades: tuple[TradeEvent, ...]
    cash: float
    value: float
    positions: tuple[Position, ...]
