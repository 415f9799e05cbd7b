"""Values that cannot change, exactly: what is read is the same as what was written, to the last bit.

`SCALARS` has one entry a type, with how it is written and how it is read back under every tag that the
writing may choose. A new type is one more entry (and a tag at the end of `tags`). What can change, and
what has to be the same object afterwards, is in `kinds` and `objects`.
"""

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC as UTC_ZONE
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import count
from types import NoneType
from typing import Any, Final
from zoneinfo import ZoneInfo

import backtrader as bt

from strategies.engine.bytes import tags
from strategies.engine.bytes.input import Input
from strategies.engine.bytes.output import Output
from strategies.engine.bytes.refusals import refused
from strategies.engine.bytes.vocabulary import STRINGS
from strategies.engine.bytes.zones import PYTZ, zone_named
from strategies.engine.engine_errors import StateInvalid

DOUBLE: Final = struct.Struct("<d")
DAY_SECONDS: Final = 86_400
WHOLE_LIMIT: Final = 2**31  # doubles without a fraction below it are shorter as integers
LONGEST_COUNTER: Final = 400
COUNTER: Final = re.compile(
    r"(-?\d{1,300}|-?\d+\.\d+(?:e[+-]?\d+)?)(?:, (-?\d{1,300}|-?\d+\.\d+(?:e[+-]?\d+)?))?"
)
Write = Callable[[Output, Any], object]
Read = Callable[[Input], Any]


@dataclass(frozen=True, slots=True)
class Scalar:
    """How a value of a type is written, and read by the tag that it was written with."""

    cls: type
    write: Write
    read: Mapping[int, Read]


def _integer(w: Output, number: int) -> None:
    if 0 <= number < tags.FIRST_STRING:
        w.out.append(number)
    else:
        w.out.append(tags.INT)
        w.whole(number)


def _float(w: Output, number: float) -> None:
    content = DOUBLE.pack(number)
    if content == b"\0\0\0\0\0\0\0\0":  # and not == 0.0, which -0.0 is too
        w.out.append(tags.ZERO)
    elif number.is_integer() and -WHOLE_LIMIT < number < WHOLE_LIMIT and number:
        w.out.append(tags.WHOLE)
        w.whole(int(number))
    else:
        w.out.append(tags.FLOAT)
        w.out += content


def _double(r: Input) -> float:
    number: float = DOUBLE.unpack(r.take(8))[0]
    return number


def _string(r: Input) -> str:
    size = r.size()
    found = r.take(size).decode("utf-8", "surrogatepass")
    if size <= tags.SHORT_STRING:
        r.strings.append(found)
    return found


def _bytes(w: Output, content: bytes) -> None:
    w.out.append(tags.BYTES)
    w.size(len(content))
    w.out += content


def _tuple(w: Output, value: tuple[Any, ...]) -> None:
    w.out.append(tags.TUPLE)
    w.items(value, len(value))


def _frozenset(w: Output, value: frozenset[Any]) -> None:
    w.out.append(tags.FROZENSET)
    w.items(sorted(value, key=w.bytes_of), len(value))


def _numbers(tag: int, *parts: str) -> Write:
    """Write something that consists of a few numbers: those attributes, one after the other."""

    def write(w: Output, value: Any) -> None:
        w.out.append(tag)
        for part in parts:
            w.put(getattr(value, part))

    return write


def _complex(w: Output, value: complex) -> None:
    w.out.append(tags.COMPLEX)
    w.out += DOUBLE.pack(value.real) + DOUBLE.pack(value.imag)


def _moment(tag: int) -> Write:
    def write(w: Output, value: Any) -> None:
        w.out.append(tag)
        text = value.replace(tzinfo=None).isoformat().encode()
        w.size(len(text) << 1 | value.fold)
        w.out += text
        w.put(value.tzinfo)

    return write


def _read_moment(make: Callable[[str], Any]) -> Read:
    def read(r: Input) -> Any:
        size = r.size()
        value = make(r.take(size >> 1).decode("ascii"))
        zone = r.get()
        return value.replace(tzinfo=zone, fold=size & 1)

    return read


_zoned: Final = _moment(tags.DATETIME)


def _datetime(w: Output, value: datetime) -> None:
    """Write a naive one as seconds since the year 1, with microseconds if there are some."""
    if value.tzinfo is not None or value.fold:
        _zoned(w, value)
        return
    since = value - datetime.min  # noqa: DTZ901 -- Backtrader computes with naive UTC
    w.out.append(tags.CLOCK)
    w.size((since.days * DAY_SECONDS + since.seconds) << 1 | bool(since.microseconds))
    if since.microseconds:
        w.size(since.microseconds)


def _clock(r: Input) -> datetime:
    size = r.size()
    since = timedelta(seconds=size >> 1, microseconds=r.size() if size & 1 else 0)
    return datetime.min + since  # noqa: DTZ901 -- Backtrader computes with naive UTC


def _timezone(w: Output, zone: timezone) -> None:
    if zone is UTC_ZONE:
        w.out.append(tags.UTC)
        return
    pickled: Any = zone  # the only way to learn whether it was given a name
    offset, name = (*pickled.__getinitargs__(), None)[:2]
    w.out.append(tags.OFFSET)
    w.put(offset)
    w.put(name)


def _offset(r: Input) -> timezone:
    offset, name = r.get(), r.get()
    return timezone(offset) if name is None else timezone(offset, name)


def _zone_info(w: Output, zone: ZoneInfo) -> None:
    if zone.key is None:  # read from a file by hand
        raise refused(zone)
    w.text(tags.ZONE, zone.key)


def _backtraders_utc(w: Output, zone: Any) -> None:
    if zone is not bt.utils.date.UTC:
        raise refused(zone)
    w.out.append(tags.BT_UTC)


def write_pytz(w: Output, zone: Any) -> None:
    name = getattr(zone, "zone", None)
    if not isinstance(name, str):
        raise refused(zone)
    w.text(tags.ZONE, PYTZ + name)


def _count(w: Output, value: Any) -> None:
    """Write the next number and the step, from the representation: the only view in every Python version."""
    w.text(tags.COUNT, repr(value)[len("count(") : -1])


def _read_count(r: Input) -> Any:
    text = r.text()
    parts = COUNTER.fullmatch(text) if len(text) <= LONGEST_COUNTER else None
    if parts is None:
        raise StateInvalid("a counter that counts nothing")
    start, step = (float(part) if "." in part else int(part) for part in (parts[1], parts[2] or "1"))
    return count(start, step)


SCALARS: Final = (
    Scalar(NoneType, lambda w, _: w.out.append(tags.NONE), {tags.NONE: lambda _: None}),
    Scalar(
        bool, lambda w, value: w.out.append(tags.TRUE if value else tags.FALSE),
        {tags.TRUE: lambda _: True, tags.FALSE: lambda _: False},
    ),
    Scalar(int, _integer, {tags.INT: Input.whole}),
    Scalar(
        float, _float,
        {tags.FLOAT: _double, tags.ZERO: lambda _: 0.0, tags.WHOLE: lambda r: float(r.whole())},
    ),
    Scalar(
        str, Output.string,
        {tags.STR: _string, tags.COMMON: lambda r: STRINGS[r.take(1)[0]],
         tags.AGAIN: lambda r: r.strings[r.size()]},
    ),
    Scalar(bytes, _bytes, {tags.BYTES: lambda r: r.take(r.size())}),
    Scalar(tuple, _tuple, {tags.TUPLE: lambda r: tuple(r.items())}),
    Scalar(frozenset, _frozenset, {tags.FROZENSET: lambda r: frozenset(r.items())}),
    Scalar(
        datetime, _datetime,
        {tags.CLOCK: _clock, tags.DATETIME: _read_moment(datetime.fromisoformat)},
    ),
    Scalar(time, _moment(tags.TIME), {tags.TIME: _read_moment(time.fromisoformat)}),
    Scalar(
        date, lambda w, value: w.text(tags.DATE, value.isoformat()),
        {tags.DATE: lambda r: date.fromisoformat(r.text())},
    ),
    Scalar(
        timedelta, _numbers(tags.TIMEDELTA, "days", "seconds", "microseconds"),
        {tags.TIMEDELTA: lambda r: timedelta(r.get(), r.get(), r.get())},
    ),
    Scalar(timezone, _timezone, {tags.UTC: lambda _: UTC_ZONE, tags.OFFSET: _offset}),
    Scalar(ZoneInfo, _zone_info, {tags.ZONE: lambda r: zone_named(r.text())}),
    Scalar(type(bt.utils.date.UTC), _backtraders_utc, {tags.BT_UTC: lambda _: bt.utils.date.UTC}),
    Scalar(
        Decimal, lambda w, value: w.text(tags.DECIMAL, str(value)),
        {tags.DECIMAL: lambda r: Decimal(r.text())},
    ),
    Scalar(complex, _complex, {tags.COMPLEX: lambda r: complex(_double(r), _double(r))}),
    Scalar(
        range, _numbers(tags.RANGE, "start", "stop", "step"),
        {tags.RANGE: lambda r: range(r.get(), r.get(), r.get())},
    ),
    Scalar(
        Fraction, _numbers(tags.FRACTION, "numerator", "denominator"),
        {tags.FRACTION: lambda r: Fraction(r.get(), r.get())},
    ),
    Scalar(count, _count, {tags.COUNT: _read_count}),
)  # fmt: skip
