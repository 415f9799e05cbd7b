"""The owner of `bars`: what was seen first of a closed interval, which is what every bot sees for ever."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from persistence.columns import Moment, Table, read_rows, selected
from persistence.setwise import insert_new
from persistence.transaction import Transaction, is_sqlite, run
from strategies.values import Bar, interval_ms


@dataclass(frozen=True, slots=True)
class BarRow:
    """A row of `bars`: a `Bar` of one series, and when it was recorded."""

    source: str
    symbol: str
    interval: str
    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    recorded_at: Moment


BARS: Final = Table("bars", BarRow, key=("source", "symbol", "interval", "open_time"))
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
        bar.open_time: BarRow(
            source=source,
            symbol=symbol,
            interval=interval,
            open_time=bar.open_time,
            open=bar.open + 0.0,
            high=bar.high + 0.0,
            low=bar.low + 0.0,
            close=bar.close + 0.0,
            volume=bar.volume + 0.0,
            recorded_at=now_ms,
        )
        for bar in reversed(list(bars))  # so that of two with one open time the first is kept
    }
    insert_new(transaction, BARS, list(rows.values()))


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
        f"SELECT {selected(Bar, transaction.dialect.name, 'b')} FROM bars b"
        " WHERE b.source = :source AND b.symbol = :symbol AND b.interval = :interval"
        " AND b.open_time > :after AND b.open_time <= :last ORDER BY b.open_time LIMIT :limit",
        {
            "source": source,
            "symbol": symbol,
            "interval": interval,
            "after": -LAST if after is None else after,
            "last": last,
            "limit": LAST if limit is None else limit,
        },
    )
    return read_rows(rows, Bar)


def recorded_range(
    transaction: Transaction, source: str, symbol: str, interval: str
) -> tuple[int, int] | None:
    """Return the open times (ms) of the first and the last recorded bar, or None if there is none."""
    # Two queries in one: SQLite looks up a lone min or max in the key, and scans the series for both.
    series = (
        "FROM bars WHERE source = :source AND symbol = :symbol AND interval = :interval"
        f" AND open_time <= {LAST}"  # text and blobs, which SQLite sorts behind all numbers, are no bars
    )
    ((first, last),) = run(
        transaction,
        f"SELECT (SELECT min(open_time) {series}), (SELECT max(open_time) {series})",
        {"source": source, "symbol": symbol, "interval": interval},
    )
    return None if first is None else (first, last)
