import threading
from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError

from persistence.bars import lock_series, read_bars, record_bars, recorded_range
from persistence.database import open_database
from persistence.database_errors import DatabaseUnavailable
from strategies.values import Bar

SERIES = ("generated:7", "BTCUSDT", "1m")
MINUTE = 60_000


def bar(number: int, close: float = 1.5) -> Bar:
    return Bar(number * MINUTE, 1.0, 2.0, 0.5, close, 1e-9)


def record(database, *bars: Bar, series=SERIES) -> None:
    with database.write() as connection:
        record_bars(connection, *series, bars, now_ms=1)


def read(database, after=None, until=None, limit=None, series=SERIES):
    with database.read() as connection:
        return read_bars(connection, *series, after, until, limit)


def test_what_was_seen_first_stays(database):
    record(database, bar(1), bar(2), bar(2, close=9.0))
    record(database, bar(2, close=7.0), bar(3))
    assert read(database) == (bar(1), bar(2), bar(3))


def test_after_is_open_and_until_is_when_a_bar_has_closed(database):
    record(database, *(bar(number) for number in range(10)))
    assert read(database, 2 * MINUTE, 6 * MINUTE) == (bar(3), bar(4), bar(5))
    assert read(database, 2 * MINUTE, 6 * MINUTE - 1) == (bar(3), bar(4))
    assert read(database, 2 * MINUTE - 1, 4 * MINUTE) == (bar(2), bar(3))
    assert read(database, None, None, 2) == (bar(0), bar(1))
    assert read(database, 100 * MINUTE) == ()


def test_doubles_come_back_bit_for_bit(database):
    odd = Bar(0, 0.1 + 0.2, 1.7976931348623157e308, 5e-324, 0.0, 123456789.12345679)
    record(database, replace(odd, close=-0.0))
    (found,) = read(database)
    assert repr(found) == repr(odd)


def test_series_are_apart_and_have_their_ranges(database):
    others = [("csv:a", *SERIES[1:]), (SERIES[0], "ETHUSDT", "1m"), (*SERIES[:2], "5m")]
    with database.read() as connection:
        assert recorded_range(connection, *SERIES) is None
    record(database, bar(5), bar(2), bar(9))
    for number, series in enumerate(others):
        record(database, bar(number), series=series)
    with database.read() as connection:
        assert recorded_range(connection, *SERIES) == (2 * MINUTE, 9 * MINUTE)
        assert recorded_range(connection, *others[2]) == (2 * MINUTE, 2 * MINUTE)
    record(database)


def test_a_bar_that_is_no_number_is_refused_by_sqlite(sqlite_url):
    """PostgreSQL's doubles know NaN: there the reader of the source alone refuses it."""
    database = open_database(sqlite_url)
    with pytest.raises(IntegrityError):
        record(database, bar(1, close=float("nan")))
    assert read(database) == ()
    database.close()


def test_two_processes_that_record_at_once_agree(database):
    barrier = threading.Barrier(4)

    def one(close: float) -> None:
        own = open_database(database.url)
        barrier.wait()
        for first in range(0, 100, 10):
            record(own, *(bar(number, close) for number in range(first, first + 10)))
        own.close()

    threads = [threading.Thread(target=one, args=(float(number),)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [each.open_time for each in read(database)] == [number * MINUTE for number in range(100)]


def test_lock_series_keeps_others_from_this_series_only(postgres_url):
    database = open_database(f"{postgres_url}&options=-c%20lock_timeout%3D100ms")
    with database.write() as one:
        lock_series(one, *SERIES)
        with database.write() as two:
            lock_series(two, SERIES[0], "ETHUSDT", "1m")
        with pytest.raises(DatabaseUnavailable), database.write() as two:
            lock_series(two, *SERIES)
    with database.write() as two:
        lock_series(two, *SERIES)
    database.close()


def test_lock_series_is_the_transaction_itself_on_sqlite(sqlite_url):
    database = open_database(sqlite_url)
    other = open_database(sqlite_url, busy_timeout_ms=50)
    with database.write() as connection:
        lock_series(connection, *SERIES)
        with pytest.raises(DatabaseUnavailable):
            record(other, bar(1))
    record(other, bar(1))
    database.close()
    other.close()
