"""Every table as SQLAlchemy knows it, to compare with what the migrations build.

The columns are those of the rows' dataclasses (`persistence.columns`); what stands here is only what a
row does not say: defaults, checks, indexes, foreign keys, how rows are numbered. A test compares these
tables with what the migrations build, on both databases, so a column that was added in one place only
fails it.

Keys are natural (bot, bar, number), so a run that was killed writes the rows of one that was not.
What may differ between two such runs is listed in `TIMING_COLUMNS` and `OPERATIONAL_TABLES`.
"""

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from persistence.audit import AUDIT
from persistence.bars import BARS
from persistence.breakers import BREAKERS
from persistence.columns import (
    BYTES,
    DOUBLE,
    FLAG,
    INT,
    JSON,
    MOMENT,
    MONEY,
    NAME,
    SMALL,
    TEXT,
    Column,
    Kind,
    Table,
    columns_of,
)
from persistence.leases import LEASES
from persistence.notifications import NOTIFICATIONS
from persistence.rows import (
    BOTS,
    CONFIGURATIONS,
    ERRORS,
    ORDER_STATUSES,
    ORDERS,
    POSITIONS,
    STATES,
    STATUSES,
    STEPS,
    TRADES,
)
from persistence.runs import RUNS
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


BIG_KEY: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers INTEGER keys only
TYPES: Final[Mapping[Kind, Any]] = {
    INT: sa.BigInteger,
    SMALL: sa.Integer,
    TEXT: sa.Text,
    NAME: sa.String(191),
    FLAG: sa.Boolean,
    DOUBLE: sa.Double,
    BYTES: sa.LargeBinary,
    JSON: JsonText,
    MONEY: Money,
    MOMENT: Moment,
}


def _table(
    table: Table[Any],
    *further: sa.schema.SchemaItem,
    defaults: Mapping[str, Any] | None = None,
    numbered: bool = False,
    **options: Any,
) -> sa.Table:
    """Return a table of the row's columns; `numbered` puts the number that the database gives in front."""

    def column(one: Column) -> sa.Column[Any]:
        return sa.Column(
            one.name,
            TYPES[one.kind],
            primary_key=one.name in table.key,
            autoincrement=False,  # nor does a natural key of one number count by itself
            nullable=one.nullable,
            server_default=(defaults or {}).get(one.name),
        )

    number = [sa.Column("id", BIG_KEY, sa.Identity(), primary_key=True)] if numbered else []
    columns = [column(one) for one in columns_of(table.row) if not (numbered and one.name == "id")]
    return sa.Table(
        table.name, metadata, *number, *columns, *further, sqlite_autoincrement=numbered, **options
    )


def _listed(column: str, *values: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})", name=column)


def _index_of_few(name: str, column: str, condition: str) -> sa.Index:
    """Return an index of the rows that are still looked for, which are few however old the table is."""
    where = sa.text(condition)
    return sa.Index(name, column, postgresql_where=where, sqlite_where=where)


trading_bots: Final = _table(
    BOTS,
    _listed("type", "paper", "live"),
    _listed("status", *STATUSES),
    # SQLite has no booleans: without a check it would take any number or text for one.
    sa.CheckConstraint("enabled IN (true, false)", name="enabled"),
    sa.CheckConstraint("paused IN (true, false)", name="paused"),
    sa.Index("ix_trading_bots_user_id", "user_id"),
    # What a plain `INSERT INTO trading_bots (config)` leaves out.
    defaults={
        "user_id": sa.text("1"),
        "type": "paper",
        "enabled": sa.true(),
        "paused": sa.false(),
        "status": "stopped",
        "revision": sa.text("1"),
        "error_count": sa.text("0"),
        "total_pnl": sa.text("'0'"),
        "description": "",
        "created_at": utc_now(),
        "updated_at": utc_now(),
    },
    numbered=True,  # a number is never used again: order ids at exchanges are made from it
)
bot_states: Final = _table(
    STATES,
    sa.ForeignKeyConstraint(["bot_id"], ["trading_bots.id"], ondelete="CASCADE"),
    sa.CheckConstraint("version > 0", name="version"),
)
configurations: Final = _table(CONFIGURATIONS)
# The ledger outlives its bot, so it refers to no row of `trading_bots`.
bot_steps: Final = _table(STEPS, sqlite_with_rowid=False)
orders: Final = _table(
    ORDERS,
    sa.UniqueConstraint("client_order_id"),
    _listed("side", "buy", "sell"),
    _listed("status", *ORDER_STATUSES),
    sqlite_with_rowid=False,
)
trading_trades: Final = _table(TRADES, _listed("side", "long", "short"), sqlite_with_rowid=False)
trading_positions: Final = _table(
    POSITIONS,
    _listed("side", "long", "short"),
    _index_of_few("ix_trading_positions_open", "bot_id", "closed_bar IS NULL"),
    sqlite_with_rowid=False,
)
bars: Final = _table(BARS, sqlite_with_rowid=False)
notifications: Final = _table(
    NOTIFICATIONS,
    _index_of_few("ix_notifications_due", "next_attempt_at", "sent_at IS NULL"),
    defaults={"attempts": sa.text("0")},
)
audit_log: Final = _table(
    AUDIT, sa.Index("ix_audit_log_bot_id", "bot_id"), defaults={"at": utc_now()}, numbered=True
)
leases: Final = _table(
    LEASES,
    # Makes the epoch part of a key: a step's FOR KEY SHARE holds off a takeover, but not a renewal.
    sa.UniqueConstraint("name", "epoch"),
)
service_runs: Final = _table(RUNS)
breakers: Final = _table(BREAKERS)
bot_errors: Final = _table(ERRORS)

# The schedule: a cache that may be dropped at any time. Nobody here reads or writes a row of it as a
# value; the scheduler's job store does, through APScheduler's own idea of the table.
apscheduler_jobs: Final = sa.Table(
    "apscheduler_jobs",
    metadata,
    sa.Column("id", sa.String(191), primary_key=True),
    sa.Column("next_run_time", sa.Double),
    sa.Column("job_state", sa.Text, nullable=False),
    sa.Index("ix_apscheduler_jobs_next_run_time", "next_run_time"),
)
