"""Bars are recorded the first time they are seen and read from there afterwards; on both databases."""

import itertools
import random
import threading
import time

import pytest
import sqlalchemy as sa
from shelf import MIN, Shelf, at, bar, shelf
from structlog.testing import capture_logs

from jobs.clock import SimulatedClock
from jobs.markets import MarketUnavailable, recorded
from jobs.markets.recorded import REASK_S, RecordedMarket, Span, admissible
from persistence.bars import lock_series, read_bars, record_bars, recorded_range
from persistence.database import open_database


def market_of(database, source: Shelf) -> RecordedMarket:
    return RecordedMarket(database, "shelf", source, SimulatedClock(at(0)))


def ask(market: RecordedMarket, after: int, until: int) -> list[int]:
    """Return the indexes of the bars behind `after` that closed at the opening of bar `until`."""
    bars = market.closed_bars("BTCUSDT", "1m", at(after), at(until))
    return [(bar.open_time - at(0)) // MIN for bar in bars]


def stored(database) -> list:
    with database.read() as connection:
        return list(read_bars(connection, "shelf", "BTCUSDT", "1m", None, None))


def indexes(database) -> list[int]:
    return [(bar.open_time - at(0)) // MIN for bar in stored(database)]


def test_bars_are_asked_for_once_and_read_from_then_on(database):
    source = shelf(range(20))
    assert ask(market_of(database, source), -1, 10) == list(range(10))
    assert stored(database) == [bar(index) for index in range(10)]
    other = market_of(database, Shelf([], down=True))
    assert ask(other, -1, 10) == list(range(10))
    assert ask(other, 3, 7) == [4, 5, 6]
    assert len(source.asked) == 1


def test_only_what_lies_outside_the_run_is_asked_for(database):
    source = shelf(range(100))
    market = market_of(database, source)
    ask(market, 39, 50)
    assert ask(market, 44, 60) == list(range(45, 60))
    assert ask(market, 19, 30) == list(range(20, 30))
    # The last recorded bar is asked for once more, to see that it is still the same market.
    assert source.asked == [(at(39), at(50)), (at(49) - 1, at(60)), (at(19), at(40))]
    assert indexes(database) == list(range(20, 60))


def test_every_bot_of_a_process_shares_one_question(database):
    source = shelf(range(20))
    market = market_of(database, source)
    for _ in range(50):
        assert ask(market, 8, 10) == [9]
    assert len(source.asked) == 1


def test_a_late_bar_is_asked_for_again_but_not_by_everybody(database):
    source = shelf(range(9))
    market = market_of(database, source)
    for _ in range(50):
        assert ask(market, 7, 10) == [8]
    assert len(source.asked) == 1
    source.bars.append(bar(9))
    time.sleep(REASK_S)
    assert ask(market, 7, 10) == [8, 9]
    assert len(source.asked) == 2


def test_a_bar_that_was_left_out_stays_a_gap(database):
    """A bar that shows up when later ones are recorded would be seen by some bots and not by others."""
    source = shelf([0, 1, 3, 4])
    market = market_of(database, source)
    assert ask(market, -1, 5) == [0, 1, 3, 4]
    source.bars = [bar(index) for index in range(8)]
    assert ask(market, -1, 7) == [0, 1, 3, 4, 5, 6]
    assert ask(market_of(database, source), -1, 8) == [0, 1, 3, 4, 5, 6, 7]


def test_a_revised_bar_never_replaces_the_recorded_one_and_is_reported(database):
    """F18: revised after the fact."""
    source = shelf(range(5))
    market = market_of(database, source)
    ask(market, -1, 5)
    source.bars = [bar(index, 10.75) for index in range(7)]
    with capture_logs() as logs:
        assert ask(market_of(database, source), -1, 7) == list(range(7))
    assert stored(database) == [*map(bar, range(5)), bar(5, 10.75), bar(6, 10.75)]
    assert [(log["event"], log["kept"], log["shown"]) for log in logs] == [
        ("bar revised", bar(4), bar(4, 10.75))
    ]


def test_another_market_under_the_same_name_is_not_recorded(database):
    """F18: the wrong symbol. Nothing of the answer is kept, and the right one is taken later."""
    source = shelf(range(5))
    ask(market_of(database, source), -1, 5)
    source.bars = [bar(index, 1_000.0) for index in range(9)]
    market = market_of(database, source)
    with capture_logs(), pytest.raises(MarketUnavailable, match="another market"):
        ask(market, 3, 9)
    assert indexes(database) == list(range(5))
    source.bars = [bar(index) for index in range(9)]
    assert ask(market, 3, 9) == [4, 5, 6, 7, 8]


def test_deeper_history_is_fetched_backwards_page_by_page(database):
    source = shelf(range(100), page_bars=10)
    market = market_of(database, source)
    ask(market, 79, 90)
    assert ask(market, 54, 85) == list(range(55, 85))
    fronts = [(after - at(0), until - at(0)) for after, until in source.asked[1:]]
    assert fronts == [(70 * MIN - 1, 80 * MIN), (60 * MIN - 1, 70 * MIN), (54 * MIN, 60 * MIN)]
    assert indexes(database) == list(range(55, 90))


def test_a_beginning_with_nothing_before_it_is_asked_about_once(database):
    source = shelf(range(50, 60), page_bars=10)
    market = market_of(database, source)
    ask(market, 54, 60)
    assert ask(market, 9, 60) == list(range(50, 60))
    asked = len(source.asked)
    assert ask(market, 9, 60) == list(range(50, 60))
    assert len(source.asked) == asked


def test_an_outage_in_the_middle_of_deeper_history_keeps_what_came(database):
    source = shelf(range(100), page_bars=10)
    market = market_of(database, source)
    ask(market, 79, 90)
    source.listener = lambda: setattr(source, "down", len(source.asked) >= 3)
    with pytest.raises(MarketUnavailable):
        ask(market, 4, 85)
    assert indexes(database) == list(range(60, 90))
    source.listener, source.down = (lambda: None), False
    assert ask(market, 4, 85) == list(range(5, 85))
    assert indexes(database) == list(range(5, 90))


def test_answers_that_end_early_are_continued(database):
    source = shelf(range(100), page_bars=5, longest=7)
    assert ask(market_of(database, source), -1, 100) == list(range(100))
    assert indexes(database) == list(range(100))


@pytest.mark.parametrize(("first", "after", "until"), [(-1, -1, 100), (89, 0, 95), (0, 0, 100)])
def test_a_wish_that_takes_too_long_is_no_short_answer(database, monkeypatch, first, after, until):
    """Half of the bars would look as if the rest did not exist; what came is kept, and it ends."""
    source = shelf(range(100), page_bars=5, longest=7)
    market = market_of(database, source)
    if first >= 0:
        ask(market, first, first + 5)
    monkeypatch.setattr(recorded, "MOST_SECONDS", -1.0)
    unfinished = 0
    while True:
        before = len(indexes(database))
        try:
            got = ask(market, after, until)
        except MarketUnavailable:
            unfinished += 1
            assert len(indexes(database)) > before
        else:
            break
    assert got == list(range(after + 1, until))
    assert unfinished > 3


def test_a_source_with_a_beginning_is_read_from_there(database):
    source = shelf(range(5, 30), page_bars=5, longest=7)
    market = market_of(database, source)
    bars = market.closed_bars("BTCUSDT", "1m", None, at(30))
    assert [bar.open_time for bar in bars] == [at(index) for index in range(5, 30)]


def test_nothing_recorded_and_nothing_there(database):
    market = market_of(database, shelf([]))
    assert ask(market, -1, 5) == []
    assert stored(database) == []


def test_no_transaction_is_open_while_the_source_is_asked(database):
    source = shelf(range(30), page_bars=5)

    def listen():
        assert database.engine.pool.checkedout() == 0

    source.listener = listen
    market = market_of(database, source)
    ask(market, 14, 20)
    ask(market, 2, 30)
    assert len(source.asked) > 3


@pytest.mark.parametrize("seed", range(12))
def test_memory_and_database_always_say_the_same(database, seed):
    """Random wishes of two processes, at a source that grows, loses and revises bars.

    What was recorded at any time is there at the end, the run has grown at its ends only, and every
    answer is the slice of the run of its moment.
    """
    dice = random.Random(seed)
    source = shelf([], page_bars=dice.choice((3, 10, 1_000)), longest=dice.choice((2, 9, 1_000)))
    markets = [market_of(database, source) for _ in range(2)]
    now = 30
    before: list = []
    for _ in range(60):
        now += dice.choice((0, 0, 1, 1, 2, 7))
        source.bars = [bar(index, dice.choice((10.25, 10.5))) for index in range(now) if dice.random() > 0.1]
        after = dice.randrange(max(0, now - 40), now)
        until = min(now, after + dice.randrange(1, 30))
        with capture_logs():
            got = ask(dice.choice(markets), after, until)
        run = stored(database)
        times = {bar.open_time for bar in before}
        assert [bar for bar in run if bar.open_time in times] == before
        if before:
            added = [bar for bar in run if bar.open_time not in times]
            assert all(not before[0].open_time < bar.open_time < before[-1].open_time for bar in added)
        everything = [(bar.open_time - at(0)) // MIN for bar in run]
        assert got == [index for index in everything if after < index < until]
        before = run


@pytest.mark.parametrize("seed", range(12))
def test_of_a_source_that_loses_nothing_nothing_is_missing(database, seed):
    """Random wishes of two processes, back and forth, at page borders and off the grid."""
    dice = random.Random(seed)
    source = shelf(range(400), page_bars=dice.choice((1, 3, 10, 1_000)), longest=dice.choice((2, 9, 1_000)))
    markets = [market_of(database, source) for _ in range(2)]
    for _ in range(25):
        after = dice.randrange(-1, 390)
        until = min(400, after + dice.randrange(1, 60))
        # Lookbacks are asked for from a ms before a bar opens.
        off = dice.choice((0, -1, 1, 30_000))
        bars = dice.choice(markets).closed_bars("BTCUSDT", "1m", at(after) + off, at(until))
        first = after if off < 0 else after + 1
        assert [bar.open_time for bar in bars] == [at(index) for index in range(max(0, first), until)]
        run = indexes(database)
        assert run == list(range(run[0], run[-1] + 1)) if run else True


def test_a_hole_never_opens_between_what_two_processes_fetch(database):
    """While one waits for its answer, the other records a run further on."""
    source = shelf(range(100), page_bars=5, longest=10)
    other = shelf(range(100))

    def meanwhile():
        source.listener = lambda: None
        assert ask(market_of(database, other), 49, 60) == list(range(50, 60))

    source.listener = meanwhile
    assert ask(market_of(database, source), -1, 100) == list(range(100))
    assert indexes(database) == list(range(100))


def test_who_fetches_second_adds_only_behind_the_first(database):
    """The first saw a gap at 12 and bots have acted on it; the second sees the bar and must not add it."""
    ask(market_of(database, shelf(range(10))), -1, 10)
    source = shelf(range(20))

    def meanwhile():
        gap = shelf([index for index in range(16) if index != 12])
        ask(market_of(database, gap), 8, 16)

    source.listener = meanwhile
    assert ask(market_of(database, source), 8, 20) == [9, 10, 11, 13, 14, 15, 16, 17, 18, 19]


def test_a_series_is_lengthened_by_one_transaction_at_a_time(database, database_url):
    """The second one waits, and sees the run as the first left it."""
    ask(market_of(database, shelf(range(10))), -1, 10)
    other = open_database(database_url)
    source = shelf(range(16))
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.extend(ask(market_of(other, source), 8, 16)))
    with database.write() as connection:
        lock_series(connection, "shelf", "BTCUSDT", "1m")
        gap = [bar(index) for index in range(10, 16) if index != 12]
        record_bars(connection, "shelf", "BTCUSDT", "1m", gap, at(16))
        thread.start()
        while not source.asked:
            time.sleep(0.01)
        time.sleep(0.3)
        assert thread.is_alive()
    thread.join(10)
    other.close()
    assert got == [9, 10, 11, 13, 14, 15]


def test_many_at_once_record_one_run(database_url):
    """Eight threads with their own databases, as eight workers have."""
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        database = open_database(database_url)
        try:
            dice = random.Random(seed)
            missing = dice.sample(range(200), 3)
            source = shelf([index for index in range(200) if index not in missing], page_bars=7, longest=11)
            market = market_of(database, source)
            for until in range(100, 200, 10):
                ask(market, dice.randrange(until - 60, until), until)
        except BaseException as exc:  # noqa: BLE001  # a thread's failure is the test's
            failures.append(exc)
        finally:
            database.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    database = open_database(database_url)
    run = indexes(database)
    database.close()
    assert run == sorted(set(run))
    assert run[-1] >= 185
    assert len(run) > (run[-1] - run[0]) - 24


class Died(Exception):
    """What a killed process would have been at this place."""


class Reaper:
    """Lets nobody live beyond the n-th call that leaves the process: a question, a statement, a commit."""

    EVENTS = ("before_cursor_execute", "after_cursor_execute", "commit")

    def __init__(self, engine, n: int) -> None:
        self.engine = engine
        self.left = n

    def __call__(self, *_) -> None:
        self.left -= 1
        if self.left == 0:
            raise Died

    def __enter__(self):
        for name in self.EVENTS:
            sa.event.listen(self.engine, name, self)
        return self

    def __exit__(self, *_) -> None:
        for name in self.EVENTS:
            sa.event.remove(self.engine, name, self)


def test_a_death_before_or_after_any_call_leaves_a_run_that_the_next_completes(database, database_url):
    """For every n: the n-th call that leaves the process is the last one, before or after it took effect."""
    deaths = 0
    for n in itertools.count(1):
        source = shelf(range(100), page_bars=10, longest=15)
        life = open_database(database_url)
        with Reaper(life.engine, n) as reaper:
            source.listener = reaper
            try:
                market = market_of(life, source)
                ask(market, 29, 40)
                ask(market, 4, 60)
                break
            except Died:
                deaths += 1
            finally:
                life.close()
        run = indexes(database)
        assert run == list(range(run[0], run[-1] + 1)) if run else True
        source.listener = lambda: None
        market = market_of(database, source)
        assert ask(market, 4, 60) == list(range(5, 60))
        assert stored(database) == [bar(index) for index in range(5, 60)]
        with database.write() as connection:
            connection.execute(sa.text("DELETE FROM bars"))
    assert deaths > 30


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_admitted_touches_the_run(seed):
    """No bar of the source is left out between the ends of the new run."""
    dice = random.Random(seed)
    for _ in range(200):
        first = dice.randrange(10, 40)
        last = first + dice.randrange(20)
        after = dice.randrange(60)
        before = after + 1 + dice.randrange(30)
        bars = [bar(index) for index in range(after + 1, before)]
        taken = admissible(bars, Span(at(after), at(before)), (at(first), at(last)))
        run = sorted({at(index) for index in range(first, last + 1)} | {bar.open_time for bar in taken})
        assert run == list(range(run[0], run[-1] + 1, MIN))
        if after <= last and before > last:
            assert run[-1] == max(at(last), at(before - 1))
        if before >= first and after < first:
            assert run[0] == min(at(first), at(after + 1))


def test_memory_is_bounded(database, monkeypatch):
    monkeypatch.setattr(recorded, "MOST_SERIES", 3)
    market = market_of(database, shelf([]))
    for symbol in range(10):
        market._series(str(symbol), "1m")
    assert list(market._known) == [("7", "1m"), ("8", "1m"), ("9", "1m")]


def test_the_range_of_a_series_is_its_own(database):
    ask(market_of(database, shelf(range(3))), -1, 3)
    with database.read() as connection:
        assert recorded_range(connection, "shelf", "BTCUSDT", "1m") == (at(0), at(2))
        assert recorded_range(connection, "other", "BTCUSDT", "1m") is None
