"""Every odd answer of F18 as a value: what becomes of it."""

import pytest

from jobs.markets import MarketRefused, MarketUnavailable, Rejected
from jobs.markets.candles import Asked, closed, has_holes, sound_bars
from strategies.values import Bar

MIN = 60_000
START = 1_620_000_000_000


def candle(index: int, *, close: object = 11.0, opened: object = None) -> list[object]:
    return [START + index * MIN if opened is None else opened, 10.0, 12.0, 9.0, close, 5.0]


def bar(index: int, close: float = 11.0) -> Bar:
    return Bar(START + index * MIN, 10.0, 12.0, 9.0, close, 5.0)


def asked(after: int, until: int) -> Asked:
    """Bars behind the one of index `after` that closed at the opening of index `until`."""
    return Asked(START + after * MIN, START + until * MIN, MIN)


def test_order_is_restored_and_repetition_removed():
    bars, rejected = sound_bars([candle(2), candle(0), candle(1), candle(0)], MIN)
    assert bars == (bar(0), bar(1), bar(2))
    assert rejected == ()


def test_of_two_versions_the_later_counts_and_is_reported():
    bars, rejected = sound_bars([candle(0), candle(1), candle(0, close=10.5)], MIN)
    assert bars == (bar(0, 10.5), bar(1))
    assert [candle.open_time for candle in rejected] == [START]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (candle(1, close=None), "found"),
        (candle(1, close=float("nan")), "close: found nan"),
        (candle(1, close=float("inf")), "close: found inf"),
        (candle(1, close=0.0), "close: found 0.0"),
        (candle(1, close=-1.0), "close: found -1.0"),
        (candle(1, close=12.5), "high: found 12.0"),
        (candle(1, close=8.5), "low: found 9.0"),
        (candle(1)[:4], "found [10.0, 12.0, 9.0]"),
        ([*candle(1)[:5], None], "None"),
        ([*candle(1)[:5], -1.0], "volume: found -1.0"),
        ([None, *candle(1)[1:]], "open time: found None"),
        (["1620000060000", *candle(1)[1:]], "open time: found '1620000060000'"),
        ([True, *candle(1)[1:]], "open time: found True"),
        ([], "open time: found None"),
    ],
)
def test_a_candle_that_is_no_bar_is_left_out_and_named(row, says):
    bars, rejected = sound_bars([candle(0), row, candle(2)], MIN)
    assert bars == (bar(0), bar(2))
    assert len(rejected) == 1
    assert says in rejected[0].reason


def test_a_candle_without_trades_is_a_bar():
    bars, rejected = sound_bars([[START, 10.0, 10.0, 10.0, 10.0, 0.0]], MIN)
    assert (len(bars), rejected) == (1, ())


def test_an_answer_without_one_readable_time_is_no_answer():
    with pytest.raises(MarketUnavailable, match="no candle"):
        sound_bars([[None] * 6, [None] * 6], MIN)


def test_one_stray_time_is_left_out():
    bars, rejected = sound_bars([candle(0), candle(1, opened=START + MIN + 1), candle(2)], MIN)
    assert bars == (bar(0), bar(2))
    assert rejected == (Rejected(START + MIN + 1, "open time is no multiple of 60000 ms"),)


def test_candles_of_a_finer_interval_are_no_answer():
    """1m candles shown for 5m: every fifth would pass for a bar of five minutes."""
    with pytest.raises(MarketUnavailable, match="another interval"):
        sound_bars([candle(index) for index in range(15)], 5 * MIN)


def test_a_grid_beside_ours_is_refused_for_good():
    """Weeks that open on Monday are not multiples of a week since 1970, a Thursday."""
    week = 604_800_000
    monday = 4 * 86_400_000
    with pytest.raises(MarketRefused, match="choose a shorter interval"):
        sound_bars([candle(0, opened=monday + index * week) for index in range(3)], week)


def test_only_what_was_asked_for_and_is_closed():
    bars = [bar(index) for index in range(6)]
    assert closed(bars, asked(0, 4), None) == (bar(1), bar(2), bar(3))
    assert closed(bars, Asked(START, START + 4 * MIN - 1, MIN), None) == (bar(1), bar(2))
    assert closed(bars, asked(9, 12), None) == ()


def test_by_the_venues_time_the_last_bar_is_not_over_yet():
    """I10: our clock runs ahead, the venue still changes the candle."""
    bars = [bar(0), bar(1), bar(2)]
    until = START + 3 * MIN
    assert closed(bars, asked(-1, 3), until) == (bar(0), bar(1), bar(2))
    assert closed(bars, asked(-1, 3), until - 1) == (bar(0), bar(1))


def test_a_later_candle_proves_that_a_bar_is_over():
    """The venue's Date may come from a cache; a candle that has begun after the bar is better proof."""
    assert closed([bar(0), bar(1), bar(2)], asked(-1, 2), START) == (bar(0), bar(1))
    # One from the future proves nothing.
    assert closed([bar(0), bar(1), bar(50)], asked(-1, 2), START) == (bar(0),)


def test_holes_are_seen_before_and_between_but_not_after():
    assert not has_holes([], asked(-1, 5))
    assert not has_holes([bar(0), bar(1)], asked(-1, 5))
    assert has_holes([bar(0), bar(2)], asked(-1, 5))
    assert has_holes([bar(1), bar(2)], asked(-1, 5))
    assert not has_holes([bar(1)], Asked(START + MIN - 1, START + 5 * MIN, MIN))
