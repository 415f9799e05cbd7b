"""What the rows of bots and of their ledger are: frozen values. Imports neither SQLAlchemy nor Backtrader.

A dataclass here is the one list of its table's columns, in their order; `persistence.columns` says what
is made from it. The rows of smaller tables stand beside the functions that own them (leases, runs,
breakers, notifications, audit, bars).

Moments (`started_at`, `created_at`, ...) and bars are ms since the epoch, UTC. Money is Decimal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from persistence.columns import Json, Moment, Small, Table

STATUSES: Final = ("stopped", "starting", "running", "paused", "error", "stopping")

# Legal moves of a bot's status. The flags `enabled` and `paused` say what is wanted, the status what is.
MOVES: Final[Mapping[str, frozenset[str]]] = {
    "stopped": frozenset({"starting", "running", "paused", "error"}),
    "starting": frozenset({"running", "paused", "error", "stopping", "stopped"}),
    "running": frozenset({"starting", "paused", "error", "stopping", "stopped"}),
    "paused": frozenset({"starting", "running", "error", "stopping", "stopped"}),
    "error": frozenset({"starting", "paused", "stopped"}),
    # Plain SQL may leave this behind; the next start takes it from there.
    "stopping": frozenset({"stopped", "starting", "running", "paused", "error"}),
}

# What `notify_order` can say of an order, in Backtrader's words.
ORDER_STATUSES: Final = (
    "Created", "Submitted", "Accepted", "Partial", "Completed", "Canceled", "Expired", "Margin", "Rejected",
)  # fmt: skip
ALIVE: Final = ORDER_STATUSES[:4]  # those of an order that may still fill


@dataclass(frozen=True, slots=True)
class Bot:
    """A row of `trading_bots`. `config` is JSON text as it stands there, not yet validated.

    `edited_by` and `edit_reason` are how an edit says who makes it and why. Triggers move them to the
    audit in the same statement, so what is read here is None.
    """

    id: int
    user_id: int
    type: str
    enabled: bool
    paused: bool
    status: str
    schedule: str | None
    config: Json
    revision: int
    started_at: Moment | None
    stopped_at: Moment | None
    resumed_at: Moment | None
    last_heartbeat: Moment | None
    error_count: Small
    last_error: str | None
    retry_at: Moment | None
    current_balance: Decimal | None
    total_pnl: Decimal
    description: str
    edited_by: str | None
    edit_reason: str | None
    created_at: Moment
    updated_at: Moment
    broken: tuple[str, ...] = ()  # what is wrong with columns that had to be replaced to be read


BOTS: Final = Table("trading_bots", Bot, key=("id",))


@dataclass(frozen=True, slots=True)
class StateRow:
    """A row of `bot_states`: where a bot stands.

    `version` counts the bars it has stepped, `last_bar` is its cursor, `configuration` the digest of
    the configuration that the engine's bytes in `state` were computed with, `fingerprint` that of the
    code. `trade_from` is the open time of the first bar that was allowed orders; `first_bar` where the
    bot's life can be replayed from, None if it cannot.
    """

    bot_id: int
    version: int
    last_bar: int
    first_bar: int | None
    trade_from: int | None
    configuration: str
    fingerprint: str
    state: bytes


STATES: Final = Table("bot_states", StateRow, key=("bot_id",))


@dataclass(frozen=True, slots=True)
class ConfigurationRow:
    """A text that states were computed with, once under its digest: the last good one of a bot."""

    digest: str
    config: str


CONFIGURATIONS: Final = Table("configurations", ConfigurationRow, key=("digest",))


@dataclass(frozen=True, slots=True)
class StepRow:
    """A row of `bot_steps`. `positions` is JSON text: {feed: [size, price]}.

    `orders` and `trades` count the orders it told of and the trades it closed; `trading` says whether
    orders were allowed.
    """

    bot_id: int
    bar: int
    version: int
    cash: Decimal
    equity: Decimal
    positions: str
    orders: Small
    trades: Small
    trading: bool
    decided_at: Moment
    took_ms: float
    broken: tuple[str, ...] = ()


STEPS: Final = Table("bot_steps", StepRow, key=("bot_id", "bar"))


@dataclass(frozen=True, slots=True)
class TradeRow:
    """A closed round trip of `trading_trades`. Quantity is unsigned, in base currency.

    The times are those of the bars again, as moments that people can read and sort by in plain SQL.
    """

    bot_id: int
    number: int
    symbol: str
    feed: str
    side: str  # long or short
    quantity: Decimal
    entry_bar: int
    entry_time: Moment
    entry_price: Decimal
    exit_bar: int
    exit_time: Moment
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
    broken: tuple[str, ...] = ()


TRADES: Final = Table("trading_trades", TradeRow, key=("bot_id", "number"))


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
    broken: tuple[str, ...] = ()


POSITIONS: Final = Table("trading_positions", PositionRow, key=("bot_id", "number"))


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
    broken: tuple[str, ...] = ()


ORDERS: Final = Table("orders", OrderRow, key=("bot_id", "number"))


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """How often a bot failed in one way since it was added, and when and how it did so last."""

    bot_id: int
    kind: str
    count: int
    last_at: Moment
    last_message: str


ERRORS: Final = Table("bot_errors", ErrorRow, key=("bot_id", "kind"))


@dataclass(frozen=True, slots=True)
class Overview:
    """One line of a list of bots: the row, its cursor, and its last step (None before the first)."""

    bot: Bot
    version: int
    last_bar: int | None
    equity: Decimal | None
    decided_at: Moment | None
    took_ms: float | None
    positions: tuple[PositionRow, ...]
