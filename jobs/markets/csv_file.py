"""Bars from a CSV file: columns timestamp, open, high, low, close, volume in any order.

`timestamp` is the bar's open time, ISO 8601 with Z or +00:00. Rows ascend; missing rows are gaps.
The file may grow while it is read: a last line without its newline is not there yet. A row that is
no bar refuses the whole file, with its line number, because nobody can know what else is wrong.
"""

import math
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from jobs.markets.port import MOST_BARS, MarketRefused, MarketUnavailable
from jobs.markets.soundness import unsound
from jobs.regular_file import NotRegular, open_regular
from strategies.values import Bar, interval_ms

COLUMNS: Final = ("timestamp", "open", "high", "low", "close", "volume")
MOST_BYTES: Final = 1 << 30
# With fewer rows a file whose rows are all further apart than the interval may be nothing but gaps.
SPACING_ROWS: Final = 10

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_UTF8_BOM: Final = b"\xef\xbb\xbf"
_UTF16_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class _Table:
    """A parsed file as columns: 48 B a row, a fifth of what the same bars take as objects."""

    times: Sequence[int]  # ms
    prices: tuple[Sequence[float], ...]  # open, high, low, close, volume
    spacing: int | None  # smallest distance of two rows, ms
    divisor: int  # greatest that divides all times, ms; 0 without rows

    def bars(self, first: int, end: int) -> Iterator[Bar]:
        columns = (column[first:end] for column in (self.times, *self.prices))
        return map(Bar, *columns)


@dataclass(slots=True)
class CsvMarket:
    """One file, parsed again whenever its size or time changes. Every symbol is the one of the file."""

    path: Path
    page_bars: int = field(default=MOST_BARS, init=False)
    _parsed: tuple[tuple[int, int, int], _Table] | None = field(default=None, init=False, repr=False)

    def closed_bars(self, symbol: str, interval: str, after: int | None, until: int) -> tuple[Bar, ...]:
        del symbol
        length = interval_ms(interval)
        table = self._table()
        _check_interval(self.path, table, interval, length)
        first = 0 if after is None else bisect_right(table.times, after)
        end = bisect_right(table.times, until - length)
        return tuple(table.bars(first, min(end, first + MOST_BARS)))

    def _table(self) -> _Table:
        try:
            with open_regular(self.path) as file:
                info = os.fstat(file.fileno())
                key = (info.st_ino, info.st_mtime_ns, info.st_size)
                if self._parsed is not None and self._parsed[0] == key:
                    return self._parsed[1]
                if info.st_size > MOST_BYTES:
                    raise MarketRefused(
                        f"{self.path}: found {info.st_size} bytes, allowed: up to {MOST_BYTES}"
                    )
                content = file.read()
        except NotRegular as exc:
            raise MarketRefused(f"{self.path}: {exc}") from exc
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as exc:
            raise MarketRefused(f"{self.path}: {exc.strerror}") from exc
        except OSError as exc:
            raise MarketUnavailable(f"{self.path}: {exc.strerror}") from exc
        table = _parse(self.path, content)
        self._parsed = (key, table)
        return table


def _check_interval(path: Path, table: _Table, interval: str, length: int) -> None:
    if table.divisor % length:
        line, time = next((i, time) for i, time in enumerate(table.times, start=2) if time % length)
        raise MarketRefused(
            f"{path}: line {line}: timestamp: found {_iso(time)}, "
            f"allowed: multiples of {interval} since 1970 UTC"
        )
    if table.spacing is not None and table.spacing > length and len(table.times) >= SPACING_ROWS:
        raise MarketRefused(
            f"{path}: found rows that are at least {table.spacing // 1000} s apart, "
            f"allowed: bars of {interval} ({length // 1000} s)"
        )


def _parse(path: Path, content: bytes) -> _Table:
    lines = _lines(path, content)
    if not lines:
        raise MarketRefused(f"{path}: found no complete line, allowed: a header {','.join(COLUMNS)}")
    order = _order(path, lines[0])
    times = array("q")
    prices = tuple(array("d") for _ in COLUMNS[1:])
    for number, line in enumerate(lines[1:], start=2):
        try:
            bar = _row(line, order)
            if times and bar.open_time <= times[-1]:
                raise _Wrong(
                    "timestamp", _iso(bar.open_time), f"later than the row before, {_iso(times[-1])}"
                )
        except _Wrong as exc:
            raise MarketRefused(f"{path}: line {number}: {exc}") from None
        times.append(bar.open_time)
        for column, value in zip(prices, (bar.open, bar.high, bar.low, bar.close, bar.volume), strict=True):
            column.append(value)
    spacing = min((later - time for time, later in pairwise(times)), default=None)
    return _Table(times, prices, spacing, math.gcd(*times))


class _Wrong(Exception):
    def __init__(self, column: str, found: str, allowed: str) -> None:
        super().__init__(f"{column}: found {found}, allowed: {allowed}")


def _lines(path: Path, content: bytes) -> list[str]:
    if content.startswith(_UTF16_BOMS):
        raise MarketRefused(f"{path}: line 1: found UTF-16, allowed: UTF-8")
    content = content.removeprefix(_UTF8_BOM)
    # Only what a newline has finished was written to its end; a writer may be in the middle of the rest.
    finished = content[: content.rfind(b"\n") + 1]
    try:
        text = finished.decode("utf-8")
    except UnicodeDecodeError as exc:
        number = finished.count(b"\n", 0, exc.start) + 1
        raise MarketRefused(f"{path}: line {number}: found bytes that are no text, allowed: UTF-8") from exc
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _order(path: Path, header: str) -> tuple[int, ...]:
    """Return where COLUMNS stand in a row."""
    names = [name.strip().strip('"') for name in header.split(",")]
    if sorted(names) != sorted(COLUMNS):
        raise MarketRefused(
            f"{path}: line 1: found columns {','.join(names)[:80]!r}, "
            f"allowed: {','.join(COLUMNS)} in any order"
        )
    return tuple(names.index(column) for column in COLUMNS)


def _row(line: str, order: tuple[int, ...]) -> Bar:
    fields = line.split(",")
    if len(fields) != len(order):
        raise _Wrong("row", f"{len(fields)} fields", f"{len(order)} fields")
    # float() would take 1_000 and the digits of every script; nobody means those.
    if "_" in line or not line.isascii():
        raise _Wrong("row", repr(line[:80]), "plain ASCII numbers")
    time, *numbers = (fields[index] for index in order)
    bar = Bar(_time(time), *map(_number, COLUMNS[1:], numbers))
    if fault := unsound(bar):
        raise _Wrong(fault.column, fault.found, fault.allowed)
    return bar


def _time(text: str) -> int:
    allowed = "an ISO 8601 time in UTC such as 2021-05-01T00:05:00Z"
    try:
        moment = datetime.fromisoformat(text.strip().strip('"'))
    except ValueError:
        raise _Wrong("timestamp", repr(text[:40]), allowed) from None
    if moment.utcoffset() != timedelta(0):
        raise _Wrong("timestamp", repr(text[:40]), allowed)
    if moment < _EPOCH or moment.microsecond % 1000:
        raise _Wrong("timestamp", repr(text[:40]), "whole ms since 1970")
    return (moment - _EPOCH) // _MS


def _number(column: str, text: str) -> float:
    try:
        return float(text.strip().strip('"'))
    except ValueError:
        raise _Wrong(column, repr(text[:40]), "a number") from None


def _iso(time: int) -> str:
    return (_EPOCH + time * _MS).isoformat().replace("+00:00", "Z")
