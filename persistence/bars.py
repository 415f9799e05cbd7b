"""The owner of `bars`: what was seen first of a closed interval, which is what every bot sees for ever."""

from collections.abc import Iterable
from typing import Final

from persistence.setwise import Target, write_rows
from persistence.transaction import Transaction, is_sqlite, run
from strategies.values import Bar, interval_ms

BARS: Final = Target(
    "bars",
    (
        ("source", "text"),
        ("symbol", "text"),
        ("interval", "text"),
        ("open_time", "int"),
        ("open", "double"),
        ("high", "double"),
        ("low", "double"),
        ("close", "double"),
        ("volume", "double"),
        ("recorded_at", "moment"),
    ),
    ("source", "symbol", "interval", "open_time"),
    keep=("*",),
)
LAST: Final = 2**62


def lock_series(transaction: Transaction, source: str, symbol: str, interval: str) -> None:
    """Keep other processes from recording this series until the transaction ends."""
    if not is_sqlite(transaction):  # BEGIN IMMEDIATE is the lock there
        key = f"bars|{source}|{symbol}|{interval}"
        run(transaction, "SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))", {"key": key})


def record_bars(
    transaction: Transaction, source: str, symbol: str, interval: str, bars: Iterable[Bar], now_ms: int
) -> None:
    """Insert what is not there yet: a bar that the source revised later changes nothing.

    A negative zero becomes zero, which is all that SQLite keeps of it.
    """
    rows = {
        bar.open_time: (
            source, symbol, interval, bar.open_time,
            *(value + 0.0 for value in (bar.open, bar.high, bar.low, bar.close, bar.volume)),
            now_ms,
        )
        for bar in reversed(list(bars))
    }  # fmt: skip
    write_rows(transaction, BARS, list(rows.values()))


def read_bars(
    transaction: Transaction,
    source: str,
    symbol: str,
    interval: str,
    after: int | None,
    until: int | None,
    limit: int | None = None,
) -> tuple[Bar, ...]:
    """Return recorded bars, ascending, that open after `after` and have closed at `until` (ms).

    None leaves that end open; `limit` keeps the earliest ones.
    """
    last = LAST if until is None else until - interval_ms(interval)
    rows = run(
        transaction,
        "SELECT open_time, open, high, low, close, volume FROM bars"
        " WHERE source = :source AND symbol = :symbol AND interval = :interval"
        " AND open_time > :after AND open_time <= :last ORDER BY open_time LIMIT :limit",
        {
            "source": source,
            "symbol": symbol,
            "interval": interval,
            "after": -LAST if after is None else after,
            "last": last,
            "limit": LAST if limit is None else limit,
        },
    )
    return tuple(Bar(*row) for row in rows)


def recorded_range(
    transaction: Transaction, source: str, symbol: str, interval: str
) -> tuple[int, int] | None:
    """Return the open times (ms) of the first and the last recorded bar, or None if there is none."""
    # Two queries in one: SQLite looks up a lone min or max in the key, and scans the series for both.
    series = "FROM bars WHERE source = :source AND symbol = :symbol AND interval = :interval"
    row = run(
        transaction,
        f"SELECT (SELECT min(open_time) {series}), (SELECT max(open_time) {series})",
        {"source": source, "symbol": symbol, "interval": interval},
    ).first()
    return None if row is None or row[0] is None else (int(row[0]), int(row[1]))
