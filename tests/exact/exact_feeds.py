"""Feeds of all kinds: symbols with gaps against each other, intervals, resampling, replay, filters."""

# ruff: noqa: E501  (tables read best with one row on one line)

import datetime as dt

import backtrader as bt
from exact_bars import random_bars, wider
from exact_record import note
from exact_run import Case

from strategies.engine import Feed


class Watching(bt.Strategy):
    """An average and an order per feed; notes how far each feed is."""

    params = (("period", 5),)

    def __init__(self):
        self.averages = [bt.indicators.EMA(data.close, period=self.p.period) for data in self.datas]
        self.ranges = [bt.indicators.ATR(data, period=self.p.period) for data in self.datas]
        self.best = bt.Max(self.data.close, self.data.open(-1))

    def prenext(self):
        note("early", [len(data) for data in self.datas])

    def next(self):
        note(
            [len(data) for data in self.datas], [data.datetime.datetime(0).isoformat() for data in self.datas]
        )
        for data, average in zip(self.datas, self.averages, strict=True):
            position = self.getposition(data)
            if data.close[0] > average[0] and not position.size:
                self.buy(data, size=1 + len(data) % 3)
            elif data.close[0] < average[0] and position.size:
                self.close(data)


def _symbols(count, gaps=0.0):
    return tuple(random_bars(40 + number, count, gaps=gaps) for number in range(3))


def _starts_late(count):
    first = random_bars(50, count)
    return first, random_bars(51, count // 2, start=first[count // 3].open_time)


def _intervals(count, small, *large):
    bars = random_bars(60, count, small)
    return (bars, *(wider(bars, small, each) for each in large))


def _resample(minutes, **options):
    def configure(cerebro):
        cerebro.resampledata(
            cerebro.datas[0], timeframe=bt.TimeFrame.Minutes, compression=minutes, name="slow", **options
        )

    return configure


def _resample_days(cerebro):
    cerebro.resampledata(cerebro.datas[0], timeframe=bt.TimeFrame.Days)
    cerebro.resampledata(cerebro.datas[0], timeframe=bt.TimeFrame.Weeks)


def _replay(minutes):
    def configure(cerebro):
        cerebro.replaydata(cerebro.datas[0], timeframe=bt.TimeFrame.Minutes, compression=minutes, name="slow")

    return configure


def _filtered(kind, **options):
    def configure(cerebro):
        for data in cerebro.datas:
            data.addfilter(kind, **options)

    return configure


def _simple_session(cerebro):
    for data in cerebro.datas:
        data.p.sessionstart, data.p.sessionend = dt.time(4), dt.time(20)
        data.addfilter_simple(bt.filters.SessionFilterSimple(data))


def _session(kind, **options):
    def configure(cerebro):
        for data in cerebro.datas:
            # The times of a feed's session are parameters that are read when it starts.
            data.p.sessionstart, data.p.sessionend = dt.time(4), dt.time(20)
            data.addfilter(kind, **options)

    return configure


def nothing(_):
    """Leave the feeds as they are."""


A, B, C = (Feed(name, "1h") for name in "ABC")
_5m = Feed("A", "5m")

# name: feeds, bars by count, what configure does, whether plain Backtrader ends with the last row too
LAYOUTS = {
    "three symbols": ((A, B, C), _symbols, nothing, True),
    "three symbols with gaps": ((A, B, C), lambda count: _symbols(count, 0.1), nothing, True),
    "one starts late": ((A, B), _starts_late, nothing, True),
    "two intervals": ((_5m, Feed("slow", "15m")), lambda n: _intervals(n, "5m", "15m"), nothing, True),
    "three intervals": (
        (_5m, Feed("slow", "15m"), Feed("slowest", "1h")),
        lambda n: _intervals(n, "5m", "15m", "1h"),
        nothing,
        True,
    ),
    "large interval first": (
        (Feed("slow", "15m"), _5m),
        lambda n: tuple(reversed(_intervals(n, "5m", "15m"))),
        nothing,
        True,
    ),
    "days and hours": ((A, Feed("day", "1d")), lambda n: _intervals(n, "1h", "1d"), nothing, True),
    "resampled": ((_5m,), lambda n: (random_bars(61, n, "5m"),), _resample(15), False),
    "resampled with gaps": ((_5m,), lambda n: (random_bars(62, n, "5m", gaps=0.1),), _resample(15), False),
    "resampled at left edge": (
        (_5m,),
        lambda n: (random_bars(63, n, "5m"),),
        _resample(15, rightedge=False, boundoff=1),
        False,
    ),
    "resampled without edge": ((_5m,), lambda n: (random_bars(63, n, "5m"),), _resample(30, bar2edge=False), False),
    "resampled to days and weeks": ((Feed("A", "4h"),), lambda n: (random_bars(64, n, "4h"),), _resample_days, False),
    "replayed": ((_5m,), lambda n: (random_bars(65, n, "5m"),), _replay(15), False),
    "replayed with gaps": ((_5m,), lambda n: (random_bars(66, n, "5m", gaps=0.1),), _replay(30), False),
    "heikin ashi": ((A,), lambda n: (random_bars(67, n),), _filtered(bt.filters.HeikinAshi), True),
    "renko": ((A,), lambda n: (random_bars(68, n),), _filtered(bt.filters.Renko, size=1.5), True),
    "renko roundstart": ((A,), lambda n: (random_bars(69, n),), _filtered(bt.filters.Renko, autosize=60.0), True),
    "session filter": ((A,), lambda n: (random_bars(70, n),), _session(bt.filters.SessionFilter), True),
    "session filler": ((A,), lambda n: (random_bars(71, n, gaps=0.1),), _session(bt.filters.SessionFiller), True),
    "simple session filter": ((A,), lambda n: (random_bars(72, n),), _simple_session, True),
    "day splitter": ((Feed("A", "1d"),), lambda n: (random_bars(73, n, "1d"),), _filtered(bt.filters.DaySplitter_Close), True),
    "day steps": ((Feed("A", "1d"),), lambda n: (random_bars(74, n, "1d"),), _filtered(bt.filters.DayStepsFilter), False),
    "calendar days": ((Feed("A", "1d"),), lambda n: (random_bars(75, n, "1d", gaps=0.1),), _filtered(bt.filters.CalendarDays, fill_price=0.0), True),
    "two filters": (
        (A,),
        lambda n: (random_bars(76, n),),
        lambda cerebro: (_filtered(bt.filters.HeikinAshi)(cerebro), _filtered(bt.filters.Renko, size=1.0)(cerebro)),
        True,
    ),
}  # fmt: skip


def feeds_case(name, count=150):
    feeds, make, prepare, whole = LAYOUTS[name]

    def configure(cerebro):
        prepare(cerebro)
        cerebro.addstrategy(Watching)

    case = Case(f"feeds {name}", configure, feeds, make(count), (__name__, "feeds_case", (name, count)))
    return case, whole
