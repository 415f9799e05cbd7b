"""Every table, once. The migrations build them; a test compares the two on both databases.

Keys are natural (bot, bar, number), so a run that was killed writes the rows of one that was not.
What may differ between two such runs is listed in `TIMING_COLUMNS` and `OPERATIONAL_TABLES`.
"""

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from persistence.rows import ORDER_STATUSES, STATUSES
from persistence.schema.column_types import JsonText, Moment, Money

NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
metadata: Final = sa.MetaData(naming_convention=NAMES)

# Columns that say when or how long, or count attempts: they differ between two runs of the same bars.
TIMING_COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "trading_bots": frozenset(
        {"started_at", "stopped_at", "resumed_at", "last_heartbeat", "retry_at", "created_at", "updated_at"}
    ),
    "bot_steps": frozenset({"decided_at", "took_ms"}),
    "bars": frozenset({"recorded_at"}),
    "notifications": frozenset({"created_at", "sent_at", "attempts", "last_error", "next_attempt_at"}),
    "audit_log": frozenset({"id", "at"}),
    "bot_errors": frozenset({"count", "last_at"}),
}
# Tables that tell how the service ran, not what the bots did.
OPERATIONAL_TABLES: Final = frozenset(
    {"leases", "service_runs", "alembic_version", "apscheduler_jobs", "breakers"}
)


class utc_now(FunctionElement[Any]):  # noqa: N801 -- it reads as the SQL function it is
    """The database's clock as a moment."""

    inherit_cache = True


@compiles(utc_now, "sqlite")
def _now_sqlite(element: utc_now, compiler: SQLCompiler, **options: Any) -> str:
    del element, compiler, options
    return "(strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))"


@compiles(utc_now, "postgresql")
def _now_postgresql(element: utc_now, compiler: SQLCompiler, **options: Any) -> str:
    del element, compiler, options
    return "now()"


def _listed(column: str, values: tuple[str, ...], name: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})", name=name)


def _bot_and(name: str) -> tuple[sa.Column[Any], sa.Column[Any]]:
    """Return the two columns of a natural key; the ledger outlives its bot, so it refers to no row."""
    return (
        sa.Column("bot_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False),
    )


BIG_KEY: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers INTEGER keys only

trading_bots: Final = sa.Table(
    "trading_bots",
    metadata,
    sa.Column("id", BIG_KEY, sa.Identity(), primary_key=True),
    sa.Column("user_id", sa.BigInteger, nullable=False, server_default=sa.text("1")),
    sa.Column("type", sa.Text, nullable=False, server_default="paper"),
    sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.true()),
    sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false()),
    sa.Column("status", sa.Text, nullable=False, server_default="stopped"),
    sa.Column("schedule", sa.Text),
    sa.Column("config", JsonText, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False, server_default=sa.text("1")),
    sa.Column("started_at", Moment),
    sa.Column("stopped_at", Moment),
    sa.Column("resumed_at", Moment),
    sa.Column("last_heartbeat", Moment),
    sa.Column("error_count", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("last_error", sa.Text),
    sa.Column("retry_at", Moment),
    sa.Column("current_balance", Money),
    sa.Column("total_pnl", Money, nullable=False, server_default=sa.text("'0'")),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    sa.Column("edited_by", sa.Text),
    sa.Column("edit_reason", sa.Text),
    sa.Column("created_at", Moment, nullable=False, server_default=utc_now()),
    sa.Column("updated_at", Moment, nullable=False, server_default=utc_now()),
    _listed("type", ("paper", "live"), "type"),
    _listed("status", STATUSES, "status"),
    sa.CheckConstraint("enabled IN (true, false)", name="enabled"),
    sa.CheckConstraint("paused IN (true, false)", name="paused"),
    sa.Index("ix_trading_bots_user_id", "user_id"),
    sqlite_autoincrement=True,  # a number is never used again: order ids at exchanges are made from it
)

bot_states: Final = sa.Table(
    "bot_states",
    metadata,
    sa.Column(
        "bot_id",
        sa.BigInteger,
        sa.ForeignKey("trading_bots.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("last_bar", sa.BigInteger, nullable=False),
    sa.Column("first_bar", sa.BigInteger),
    sa.Column("trade_from", sa.BigInteger),
    sa.Column("configuration", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.CheckConstraint("version > 0", name="version"),
)

# What states were computed with, each text once under its digest: the last good one of every bot.
configurations: Final = sa.Table(
    "configurations",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("config", sa.Text, nullable=False),
)

bot_steps: Final = sa.Table(
    "bot_steps",
    metadata,
    *_bot_and("bar"),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("cash", Money, nullable=False),
    sa.Column("equity", Money, nullable=False),
    sa.Column("positions", sa.Text, nullable=False),
    sa.Column("orders", sa.Integer, nullable=False),
    sa.Column("trades", sa.Integer, nullable=False),
    sa.Column("trading", sa.Boolean, nullable=False),
    sa.Column("decided_at", Moment, nullable=False),
    sa.Column("took_ms", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)

orders: Final = sa.Table(
    "orders",
    metadata,
    *_bot_and("number"),
    sa.Column("client_order_id", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("feed", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("exectype", sa.Text, nullable=False),
    sa.Column("size", Money, nullable=False),
    sa.Column("price", Money),
    sa.Column("pricelimit", Money),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("bar", sa.BigInteger, nullable=False),
    sa.Column("updated_bar", sa.BigInteger, nullable=False),
    sa.Column("executed_size", Money, nullable=False),
    sa.Column("executed_price", Money, nullable=False),
    sa.Column("executed_bar", sa.BigInteger),
    sa.Column("commission", Money, nullable=False),
    sa.Column("pnl", Money, nullable=False),
    sa.Column("tradeid", sa.BigInteger, nullable=False),
    sa.Column("parent", sa.BigInteger),
    sa.Column("info", sa.Text, nullable=False),
    sa.UniqueConstraint("client_order_id"),
    _listed("side", ("buy", "sell"), "side"),
    _listed("status", ORDER_STATUSES, "status"),
    sqlite_with_rowid=False,
)

trading_trades: Final = sa.Table(
    "trading_trades",
    metadata,
    *_bot_and("number"),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("feed", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("quantity", Money, nullable=False),
    sa.Column("entry_bar", sa.BigInteger, nullable=False),
    sa.Column("entry_time", Moment, nullable=False),
    sa.Column("entry_price", Money, nullable=False),
    sa.Column("exit_bar", sa.BigInteger, nullable=False),
    sa.Column("exit_time", Moment, nullable=False),
    sa.Column("exit_price", Money, nullable=False),
    sa.Column("entry_order", sa.BigInteger, nullable=False),
    sa.Column("exit_order", sa.BigInteger),
    sa.Column("commission", Money, nullable=False),
    sa.Column("gross_pnl", Money, nullable=False),
    sa.Column("net_pnl", Money, nullable=False),
    sa.Column("entry_logic", sa.Text),
    sa.Column("exit_logic", sa.Text),
    sa.Column("exit_reason", sa.Text),
    sa.Column("bars", sa.BigInteger, nullable=False),
    _listed("side", ("long", "short"), "side"),
    sqlite_with_rowid=False,
)

trading_positions: Final = sa.Table(
    "trading_positions",
    metadata,
    *_bot_and("number"),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("feed", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("quantity", Money, nullable=False),
    sa.Column("price", Money, nullable=False),
    sa.Column("opened_bar", sa.BigInteger, nullable=False),
    sa.Column("closed_bar", sa.BigInteger),
    _listed("side", ("long", "short"), "side"),
    sqlite_with_rowid=False,
)
sa.Index(
    "ix_trading_positions_open",
    trading_positions.c.bot_id,
    postgresql_where=trading_positions.c.closed_bar.is_(None),
    sqlite_where=trading_positions.c.closed_bar.is_(None),
)

bars: Final = sa.Table(
    "bars",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("interval", sa.Text, primary_key=True),
    sa.Column("open_time", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("open", sa.Double, nullable=False),
    sa.Column("high", sa.Double, nullable=False),
    sa.Column("low", sa.Double, nullable=False),
    sa.Column("close", sa.Double, nullable=False),
    sa.Column("volume", sa.Double, nullable=False),
    sa.Column("recorded_at", Moment, nullable=False),
    sqlite_with_rowid=False,
)

notifications: Final = sa.Table(
    "notifications",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("bot_id", sa.BigInteger),
    sa.Column("bar", sa.BigInteger),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("next_attempt_at", Moment, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("last_error", sa.Text),
    sa.Column("sent_at", Moment),
)
sa.Index(
    "ix_notifications_due",
    notifications.c.next_attempt_at,
    postgresql_where=notifications.c.sent_at.is_(None),
    sqlite_where=notifications.c.sent_at.is_(None),
)

audit_log: Final = sa.Table(
    "audit_log",
    metadata,
    sa.Column("id", BIG_KEY, sa.Identity(), primary_key=True),
    sa.Column("at", Moment, nullable=False, server_default=utc_now()),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("bot_id", sa.BigInteger),
    sa.Column("reason", sa.Text),
    sa.Column("old", sa.Text),
    sa.Column("new", sa.Text),
    sa.Index("ix_audit_log_bot_id", "bot_id"),
    sqlite_autoincrement=True,
)

leases: Final = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    # Makes the epoch part of a key: a step's FOR KEY SHARE holds off a takeover, but not a renewal.
    sa.UniqueConstraint("name", "epoch"),
)

service_runs: Final = sa.Table(
    "service_runs",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("user_id", sa.BigInteger),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("heartbeat_at", Moment, nullable=False),
    sa.Column("ended_at", Moment),
    sa.Column("clean", sa.Boolean),
    sa.Column("details", sa.Text, nullable=False),
)

# A cache of the schedule, kept by the scheduler; it may be dropped at any time.
apscheduler_jobs: Final = sa.Table(
    "apscheduler_jobs",
    metadata,
    sa.Column("id", sa.String(191), primary_key=True),
    sa.Column("next_run_time", sa.Double),
    sa.Column("job_state", sa.Text, nullable=False),
    sa.Index("ix_apscheduler_jobs_next_run_time", "next_run_time"),
)

# One circuit breaker per exchange, shared by all workers. Its times are ms.
breakers: Final = sa.Table(
    "breakers",
    metadata,
    sa.Column("name", sa.String(191), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("opened_at", sa.BigInteger, nullable=False),
    sa.Column("open_for", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

# How often a bot failed in each way, since it was added.
bot_errors: Final = sa.Table(
    "bot_errors",
    metadata,
    sa.Column("bot_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("last_at", Moment, nullable=False),
    sa.Column("last_message", sa.Text, nullable=False),
)
