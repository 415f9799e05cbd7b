import hashlib
import random
import struct
import time
from itertools import pairwise

import pytest

from jobs.markets import MOST_BARS, MarketRefused
from jobs.markets.generated import ROOT_SPAN, GeneratedMarket
from jobs.markets.soundness import unsound
from strategies.values import Bar, interval_ms

MARKET = GeneratedMarket(7)
NOON = 1_700_000_000_000
INTERVALS = ("1s", "5s", "7s", "1m", "90s", "3m", "5m", "1h", "4h", "1d", "1w")


def bars_at(interval: str, start: int, count: int, market: GeneratedMarket = MARKET) -> tuple[Bar, ...]:
    """Return `count` bars from the first that opens at or after `start` on."""
    length = interval_ms(interval)
    first = -(-start // length) * length
    return market.closed_bars("BTCUSDT", interval, first - 1, first + count * length)


def aggregate(open_time: int, bars: tuple[Bar, ...]) -> Bar:
    return Bar(
        open_time,
        bars[0].open,
        max(bar.high for bar in bars),
        min(bar.low for bar in bars),
        bars[-1].close,
        sum(bar.volume for bar in bars),
    )


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("1s", "5s"),
        ("1s", "7s"),
        ("1s", "1m"),
        ("5s", "90s"),
        ("1m", "1h"),
        ("3m", "1d"),
        ("1h", "1w"),
        ("1d", "1w"),
    ],
)
def test_larger_intervals_aggregate_smaller_ones_to_the_last_digit(small, large):
    ratio = interval_ms(large) // interval_ms(small)
    for bar in bars_at(large, NOON, 3):
        parts = bars_at(small, bar.open_time, ratio)
        assert len(parts) == ratio
        assert aggregate(bar.open_time, parts) == bar


def test_aggregates_hold_where_two_roots_meet():
    seam = (NOON // 1_000 // ROOT_SPAN + 1) * ROOT_SPAN * 1_000
    for bar in bars_at("7s", seam - 21_000, 6):
        assert aggregate(bar.open_time, bars_at("1s", bar.open_time, 7)) == bar
    week = bars_at("1w", seam - interval_ms("1w"), 1)[0]
    assert week.open_time < seam < week.open_time + interval_ms("1w")
    assert aggregate(week.open_time, bars_at("1h", week.open_time, 168)) == week


@pytest.mark.parametrize("interval", INTERVALS)
def test_any_bar_is_the_same_however_it_is_asked_for(interval):
    """Asked for in a run, alone, in another order, or by another object: the same bar."""
    run = bars_at(interval, NOON, 40)
    assert [bar.open_time for bar in run] == [run[0].open_time + i * interval_ms(interval) for i in range(40)]
    shuffled = list(run)
    random.Random(1).shuffle(shuffled)
    for bar in shuffled:
        assert bars_at(interval, bar.open_time, 1, GeneratedMarket(7)) == (bar,)
    for bar in run:
        assert unsound(bar) is None


def test_symbols_and_seeds_are_different_markets_and_spellings_are_not():
    def closes(symbol: str, seed: int) -> list[float]:
        bars = GeneratedMarket(seed).closed_bars(symbol, "1m", NOON, NOON + 3_600_000)
        return [bar.close for bar in bars]

    assert closes("BTC/USDT", 1) == closes("BTCUSDT", 1)
    different = [closes("BTCUSDT", 1), closes("BTCUSDT", 2), closes("ETHUSDT", 1)]
    assert len({tuple(bars) for bars in different}) == 3


def test_every_machine_makes_the_same_bytes():
    """The digest was made once with Python 3.11 on Linux; every other interpreter must find it too."""
    digest = hashlib.sha256()
    for interval in INTERVALS:
        for bar in bars_at(interval, NOON, 100):
            digest.update(
                struct.pack(">q5d", bar.open_time, bar.open, bar.high, bar.low, bar.close, bar.volume)
            )
    assert digest.hexdigest() == "8dcab9f087e6cce058964db5b79bf61e7848dc8782371e7ac107bef958c3ecf0"


def test_it_looks_like_a_market():
    """Moves, ranges and volumes of the size that real ones have; no bar stands still for long."""
    hours = bars_at("1h", NOON, 5_000)
    moves = [abs(b.close / a.close - 1) for a, b in pairwise(hours)]
    assert 0.001 < sum(moves) / len(moves) < 0.02
    assert sum(move == 0 for move in moves) < 50
    volumes = sorted(bar.volume for bar in hours)
    assert volumes[500] * 2 < volumes[4_500]
    seconds = bars_at("1s", NOON, 5_000)
    assert sum(a.close != b.open for a, b in pairwise(seconds)) > 500
    assert len({bar.close for bar in seconds}) > 20
    lengths = [bar.high - bar.low for bar in seconds]
    assert max(lengths) < seconds[0].close * 0.01


def test_prices_stay_positive_for_a_century():
    for symbol in ("BTCUSDT", "ETHUSDT", "ADABTC"):
        bars = MARKET.closed_bars(symbol, "4w", -1, 100 * 365 * 86_400_000)
        assert len(bars) > 1_300
        assert min(bar.low for bar in bars) > max(bar.high for bar in bars) / 10


def test_a_week_costs_no_more_than_its_cover():
    """A bar of a week is an aggregate of 604,800 seconds and must not look at every one."""
    started = time.process_time()
    bars_at("1w", NOON, 200)
    assert time.process_time() - started < 200 * 0.005


def test_wishes_are_bounded_and_need_a_beginning():
    assert len(MARKET.closed_bars("BTCUSDT", "1s", NOON, NOON + 2 * MOST_BARS * 1_000)) == MOST_BARS
    assert MARKET.closed_bars("BTCUSDT", "1h", NOON, NOON) == ()
    assert MARKET.closed_bars("BTCUSDT", "1h", -(10**9), 0) == ()
    with pytest.raises(MarketRefused, match="beginning"):
        MARKET.closed_bars("BTCUSDT", "1h", None, NOON)


def test_only_closed_bars_are_shown():
    opened = NOON - NOON % 60_000
    assert MARKET.closed_bars("BTCUSDT", "1m", opened - 1, opened + 59_999) == ()
    (bar,) = MARKET.closed_bars("BTCUSDT", "1m", opened - 1, opened + 60_000)
    assert bar.open_time == opened
