"""CSV files that must be refused when they are asked for 1h bars, with what must be said about them.

Importable: other tests put the same files before the whole service.
"""

from dataclasses import dataclass

HEADER = "timestamp,open,high,low,close,volume"
GOOD = "2021-05-01T00:00:00Z,10.0,12.0,9.0,11.0,5.0"
NEXT = "2021-05-01T01:00:00Z,11.0,12.5,10.5,12.0,6.0"
NUMBERS = "10.0,12.0,9.0,11.0,5.0"


@dataclass(frozen=True, slots=True)
class BrokenCsv:
    name: str
    content: bytes
    says: tuple[str, ...]


def _rows(*rows: str, header: str = HEADER) -> bytes:
    return ("\n".join((header, *rows)) + "\n").encode()


def _second(row: str, *says: str, name: str) -> BrokenCsv:
    """A file whose second row, on line 3, is wrong."""
    return BrokenCsv(name, _rows(GOOD, row), ("line 3:", *says))


def _stamp(text: str, *says: str, name: str) -> BrokenCsv:
    return _second(f"{text},{NUMBERS}", "timestamp:", *says, name=name)


def _numbers(text: str, *says: str, name: str) -> BrokenCsv:
    return _second(f"2021-05-01T01:00:00Z,{text}", *says, name=name)


ISO = "allowed: an ISO 8601 time in UTC such as 2021-05-01T00:05:00Z"
POSITIVE = "allowed: a finite number above 0"

BROKEN_CSV: tuple[BrokenCsv, ...] = (
    BrokenCsv("empty", b"", ("found no complete line", HEADER)),
    BrokenCsv("only_a_newline", b"\n", ("found no complete line",)),
    BrokenCsv("half_a_header", HEADER[:20].encode(), ("found no complete line",)),
    BrokenCsv("no_header", _rows(GOOD, header=NEXT), ("line 1:", "found columns", "in any order")),
    BrokenCsv("column_missing", _rows(header="timestamp,open,high,low,close"), ("line 1:", HEADER)),
    BrokenCsv("column_twice", _rows(header="timestamp,open,high,low,close,close"), ("line 1:", HEADER)),
    BrokenCsv(
        "column_of_another_name", _rows(header="date,open,high,low,close,volume"), ("line 1:", "'date,")
    ),
    BrokenCsv("column_too_many", _rows(header=HEADER + ",trades"), ("line 1:", "trades")),
    BrokenCsv("semicolons", _rows(header=HEADER.replace(",", ";")), ("line 1:", "timestamp;open")),
    BrokenCsv("utf16", _rows(GOOD).decode().encode("utf-16"), ("line 1:", "found UTF-16", "UTF-8")),
    BrokenCsv("no_text", _rows(GOOD) + b"\xff\xfe\xfa\n", ("line 3:", "found bytes that are no text")),
    BrokenCsv("nul_bytes", _rows(GOOD) + b"\0\0\0\n", ("line 3:", "found 1 fields")),
    BrokenCsv("old_mac_newlines", _rows(GOOD).replace(b"\n", b"\r"), ("found no complete line",)),
    BrokenCsv("blank_line_inside", _rows(GOOD, "", NEXT), ("line 3:", "row: found 1 fields, allowed: 6")),
    _second("2021-05-01T01:00:00Z,11.0,12.5", "row: found 3 fields, allowed: 6 fields", name="row_cut"),
    _second(NEXT + ",7", "row: found 7 fields, allowed: 6 fields", name="row_too_long"),
    _stamp("yesterday", "found 'yesterday'", ISO, name="time_is_no_time"),
    _stamp("1619830800000", "found '1619830800000'", ISO, name="time_in_ms"),
    _stamp("2021-05-01T01:00:00", ISO, name="time_without_zone"),
    _stamp("2021-05-01", ISO, name="time_is_a_date"),
    _stamp("2021-05-01T01:00:00+02:00", "+02:00", ISO, name="time_of_another_zone"),
    _stamp("2021-02-30T01:00:00Z", ISO, name="time_of_no_day"),
    _stamp("1969-12-31T23:00:00Z", "whole ms since 1970", name="time_before_1970"),
    _stamp("2021-05-01T01:00:00.000500Z", "whole ms since 1970", name="time_in_microseconds"),
    _stamp("", "found ''", ISO, name="time_missing"),
    _stamp("2021-05-01T01:05:00Z", "found 2021-05-01T01:05:00Z", "multiples of 1h", name="time_off_the_grid"),
    _stamp("2021-05-01T00:00:00Z", "later than the row before, 2021-05-01T00:00:00Z", name="time_twice"),
    _stamp("2021-04-30T23:00:00Z", "found 2021-04-30T23:00:00Z", "later than", name="time_goes_back"),
    _numbers("ten,12.0,9.0,11.0,5.0", "open: found 'ten'", "allowed: a number", name="price_is_a_word"),
    _numbers(",12.0,9.0,11.0,5.0", "open: found ''", "allowed: a number", name="price_missing"),
    _numbers("10.0,nan,9.0,11.0,5.0", "high: found nan", POSITIVE, name="price_nan"),
    _numbers("10.0,inf,9.0,11.0,5.0", "high: found inf", POSITIVE, name="price_infinite"),
    _numbers("10.0,1e999,9.0,11.0,5.0", "high: found inf", POSITIVE, name="price_beyond_doubles"),
    _numbers("10.0,12.0,-9.0,11.0,5.0", "low: found -9.0", POSITIVE, name="price_negative"),
    _numbers("10.0,12.0,0.0,11.0,5.0", "low: found 0.0", POSITIVE, name="price_zero"),
    _numbers("1_0.0,12.0,9.0,11.0,5.0", "plain ASCII numbers", name="price_with_underscore"),
    _numbers("\u0661\u0660,12.0,9.0,11.0,5.0", "plain ASCII numbers", name="price_in_other_digits"),
    _numbers('"10,5",12.0,9.0,11.0,5.0', "row: found 7 fields", name="price_with_decimal_comma"),
    _numbers(
        "10.0,8.0,9.0,9.5,5.0", "high: found 8.0, allowed: at least the low, 9.0", name="high_below_low"
    ),
    _numbers(
        "10.0,9.5,9.0,9.2,5.0", "high: found 9.5", "at least open and close, 10.0", name="high_below_open"
    ),
    _numbers(
        "10.0,12.0,10.5,11.0,5.0", "low: found 10.5", "at most open and close, 10.0", name="low_above_open"
    ),
    _numbers("10.0,12.0,9.0,11.0,-5.0", "volume: found -5.0", "from 0", name="volume_negative"),
    _numbers("10.0,12.0,9.0,11.0,nan", "volume: found nan", "from 0", name="volume_nan"),
    BrokenCsv(
        "another_interval",
        _rows(*(f"2021-05-{day:02}T00:00:00Z,{NUMBERS}" for day in range(1, 12))),
        ("found rows that are at least 86400 s apart", "allowed: bars of 1h (3600 s)"),
    ),
    BrokenCsv(
        "a_finer_interval",
        _rows(*(f"2021-05-01T00:{minute:02}:00Z,{NUMBERS}" for minute in range(0, 60, 5))),
        ("line 3:", "found 2021-05-01T00:05:00Z", "multiples of 1h since 1970 UTC"),
    ),
)
