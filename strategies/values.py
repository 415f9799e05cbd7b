"""What rooms hand to one another: bars, what a step of the engine says, lengths of intervals.

Frozen values and pure arithmetic. It imports nothing that costs: to show a list of bots
or to write a ledger loads no Backtrader (a contract of import-linter).

Prices and sizes are the doubles that Backtrader computes with; a ledger turns them into
`Decimal(repr(x))`, which loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

INTERVAL_UNITS_MS: Final = {
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}


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


def interval_ms(interval: str) -> int:
    """Return the length in ms of an interval as ccxt writes it: a whole number and one of s m h d w.

    Raises ValueError for anything else; months have no fixed length and are refused.
    """
    count, unit = interval[:-1], interval[-1:]
    if unit not in INTERVAL_UNITS_MS or not (count.isascii() and count.isdigit()) or int(count) == 0:
        allowed = "a whole number of s, m, h, d or w, such as 1m, 15m, 4h"
        raise ValueError(f"interval {interval!r} is not {allowed}")
    return int(count) * INTERVAL_UNITS_MS[unit]
