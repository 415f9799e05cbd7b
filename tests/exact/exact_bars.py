"""Bars for the exactness tests: made by seed or read from files, put into rows as callers do."""

import csv
import math
import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from strategies.engine import Bar, Feed
from strategies.values import interval_ms

START_MS = 1_609_459_200_000  # 2021-01-01, a Friday, so that week ends and year starts are met early


def random_bars(seed, count, interval="1h", *, start=START_MS, gaps=0.0):
    """Return a random walk with what real candles have: flat bars, bars without volume, ties, gaps."""
    rng = random.Random(seed)
    length = interval_ms(interval)
    price, opened, bars = 100.0 + rng.random() * 50, start, []
    while len(bars) < count:
        if rng.random() < gaps:
            opened += length * rng.randint(1, 6)
        bars.append(_bar(rng, opened, price))
        price = bars[-1].close
        opened += length
    return tuple(bars)


def _bar(rng, opened, price):
    if rng.random() < 0.03:
        return Bar(opened, price, price, price, price, 0.0)
    # Two decimals, so that equal prices and crosses at a touch happen.
    close = round(max(1.0, price * math.exp(rng.gauss(0, 0.012))), 2)
    first = round(max(1.0, price * math.exp(rng.gauss(0, 0.001))), 2)
    high = round(max(first, close) * (1 + abs(rng.gauss(0, 0.005))), 2)
    low = round(min(first, close) * (1 - abs(rng.gauss(0, 0.005))), 2)
    volume = 0.0 if rng.random() < 0.02 else round(rng.lognormvariate(5, 1), 3)
    return Bar(opened, first, high, low, close, volume)


def wider(bars, interval, to):
    """Aggregate bars of `interval` into complete bars of the larger interval `to`."""
    length, small = interval_ms(to), interval_ms(interval)
    groups: dict[int, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(bar.open_time // length * length, []).append(bar)
    last = bars[-1].open_time + small
    return tuple(
        Bar(
            opened,
            each[0].open,
            max(bar.high for bar in each),
            min(bar.low for bar in each),
            each[-1].close,
            math.fsum(bar.volume for bar in each),
        )
        for opened, each in groups.items()
        if opened + length <= last
    )


def stamp(bar, feed: Feed, feeds: Sequence[Feed]):
    """Return ms: the open time of the last bar of the smallest interval that `bar` contains."""
    smallest = min(interval_ms(each.interval) for each in feeds)
    return bar.open_time + interval_ms(feed.interval) - smallest


def rows_of(feeds, bars):
    """Put the bars of every feed that close together into one row, in order of time."""
    rows: dict[int, list[Bar | None]] = {}
    for number, (feed, each) in enumerate(zip(feeds, bars, strict=True)):
        for bar in each:
            rows.setdefault(stamp(bar, feed, feeds), [None] * len(feeds))[number] = bar
    return tuple(tuple(rows[moment]) for moment in sorted(rows))


def data_folder():
    """Return the folder of real candles; ONEBAR_DATA names it, the default stands beside the checkout."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("ONEBAR_DATA", beside))


def real_bars(name, count, skip=0):
    """Read `count` candles of a file of the folder of real candles."""
    bars = []
    with (data_folder() / name).open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if number >= skip + count:
                break
            if number >= skip:
                opened = datetime.fromisoformat(row["timestamp"]).astimezone(UTC)
                prices = (float(row[key]) for key in ("open", "high", "low", "close", "volume"))
                bars.append(Bar(round(opened.timestamp() * 1000), *prices))
    return tuple(bars)
