"""One way to run SQL, whether SQLAlchemy or a bare driver holds the transaction.

The modules that own tables speak hand-written SQL through `run`: the `jobs` command must start
without importing SQLAlchemy (0.65 s), and a batch of steps is a handful of set-wise statements that
each database wants in its own words. So there is one implementation of every rule, not two.

A `Transaction` is open when a function gets it, and no function here or in the owners of tables begins,
commits or rolls back: who opened it decides what is visible together (`Database.write`,
`Console.write`). So the owners' functions can be put together to larger transactions, and a death
before the opener's COMMIT leaves nothing of any of them.

SQL is written with `:name` parameters and CAST, which both drivers can be given. Time is ms since the
epoch in Python and in parameters; the database's own moments begin and end here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, Literal, Protocol

Dialect = Literal["sqlite", "postgresql"]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAME: Final = re.compile(r"(?<![:\w]):([a-z_]+)\b")


class Result(Protocol):
    @property
    def rowcount(self) -> int: ...
    def all(self) -> Sequence[Any]: ...
    def first(self) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


class DialectName(Protocol):
    @property
    def name(self) -> str: ...


class Transaction(Protocol):
    """An open transaction: a SQLAlchemy Connection, or the console's over a bare driver."""

    @property
    def dialect(self) -> DialectName: ...
    def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Result: ...


def is_sqlite(transaction: Transaction) -> bool:
    return transaction.dialect.name == "sqlite"


def run(transaction: Transaction, sql: str, parameters: Mapping[str, object] | None = None) -> Result:
    """Run one statement with `:name` parameters."""
    return transaction.exec_driver_sql(in_style(sql, transaction.dialect.name), dict(parameters or {}))


def run_many(transaction: Transaction, sql: str, parameters: list[dict[str, object]]) -> None:
    """Run one statement once per set of `:name` parameters."""
    if parameters:
        transaction.exec_driver_sql(in_style(sql, transaction.dialect.name), parameters)


@cache
def in_style(sql: str, dialect: str) -> str:
    """Return `sql` as the driver wants its parameters written."""
    return sql if dialect == "sqlite" else _NAME.sub(r"%(\1)s", sql.replace("%", "%%"))


def moment(transaction: Transaction, ms: int | None) -> str | datetime | None:
    """Return ms since the epoch as the database's own moment."""
    if ms is None:
        return None
    return iso(ms) if is_sqlite(transaction) else EPOCH + timedelta(milliseconds=ms)


def iso(ms: int) -> str:
    """2026-11-21T01:00:00.123Z, which SQLite keeps as text and sorts as time."""
    return (EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


@cache
def ms_of(column: str, dialect: str) -> str:
    """Return SQL that reads a moment as ms since the epoch; on SQLite, text that is no time reads as NULL."""
    if dialect == "sqlite":
        return f"CAST(round((julianday({column}) - 2440587.5) * 86400000.0) AS INTEGER)"
    return f"CAST(extract(epoch FROM {column}) * 1000 AS BIGINT)"


@cache
def now_ms_sql(dialect: str) -> str:
    """Return SQL for ms since the epoch by the database's clock, also in the middle of a transaction."""
    return ms_of("'now'" if dialect == "sqlite" else "clock_timestamp()", dialect)


def database_now(transaction: Transaction) -> int:
    ((now_ms,),) = run(transaction, "SELECT " + now_ms_sql(transaction.dialect.name))
    return int(now_ms)
