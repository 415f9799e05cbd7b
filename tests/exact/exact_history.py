"""Strategies that read further back than their indicators ask for, and some that read ahead."""

import backtrader as bt
from exact_bars import random_bars
from exact_record import note
from exact_run import Case

from strategies.engine import Feed


class Deep(bt.Strategy):
    """Reads `ago` bars back of its feed and of an indicator; the depth is no literal in its code."""

    params = (("ago", 30), ("every", 1))

    def __init__(self):
        self.sma = bt.indicators.SMA(period=3)

    def next(self):
        if len(self) > self.p.ago + 3 and len(self) % self.p.every == 0:
            note(self.data.close[-self.p.ago], self.sma[-self.p.ago], self.data.datetime[-self.p.ago])


class Growing(bt.Strategy):
    """Reads back to the very first bar, further at every bar."""

    def next(self):
        note(self.data.close[1 - len(self)], self.data.low[-(len(self) // 2)])


class Windows(bt.Strategy):
    """Takes whole windows, as code that feeds numpy does."""

    params = (("size", 40),)

    def __init__(self):
        self.ema = bt.indicators.EMA(period=4)

    def next(self):
        if len(self) > self.p.size + 5:
            note(list(self.data.close.get(size=self.p.size)), list(self.ema.get(ago=-2, size=self.p.size)))
            note(sum(self.data.close.get(ago=-3, size=2)))


class Dates(bt.Strategy):
    params = (("ago", 25),)

    def next(self):
        if len(self) > self.p.ago:
            note(
                self.data.datetime.datetime(-self.p.ago).isoformat(),
                str(self.data.datetime.date(-self.p.ago)),
            )
            note(str(self.data.datetime.time(-self.p.ago)))


class Wrapping(bt.Strategy):
    """Reads behind the first value of an indicator, where Python's lists wrap round."""

    def __init__(self):
        self.sma = bt.indicators.SMA(period=2)
        self.rsi = bt.indicators.RSI(period=3)

    def prenext(self):
        self.next()

    def next(self):
        for ago in (2, 4, 9):
            for line in (self.sma.lines.sma, self.rsi.lines.rsi):
                try:
                    note(ago, line[-ago])
                except IndexError:
                    note(ago, "nothing there")


class LongReader(bt.Indicator):
    """Declares no period for what it reads."""

    lines = ("past",)
    params = (("ago", 20),)

    def next(self):
        self.lines.past[0] = self.data[-self.p.ago] if len(self) > self.p.ago else 0.0
        if len(self) > 2 * self.p.ago:
            self.lines.past[0] += self.lines.past[-self.p.ago] * 0.5


class Indicated(bt.Strategy):
    def __init__(self):
        self.past = LongReader(self.data.close)
        self.deeper = bt.indicators.SMA(LongReader(self.past, ago=15), period=2)

    def next(self):
        note(self.past[0], self.deeper[0])


class Rare(bt.Strategy):
    """Reads far back once in a hundred bars, after the buffers were cut many times."""

    def next(self):
        if len(self) % 100 == 99:
            note(self.data.close[-90], self.data.open[-57])


class Ahead(bt.Strategy):
    def next(self):
        if len(self) < 40:
            note(self.data.close[1])


class Whole(bt.Strategy):
    def next(self):
        note(self.data.buflen())


class BeforeFirst(bt.Strategy):
    """Reads a feed behind its first bar: preloaded, that is the last bar of all."""

    def next(self):
        note(self.data.close[-len(self) - 2])


class RawArray(bt.Strategy):
    def next(self):
        note(list(self.data.close.array)[-3:])


RIGHT = (Deep, Growing, Windows, Dates, Wrapping, Indicated, Rare)
FUTURE = (Ahead, Whole, BeforeFirst, RawArray)


def history_case(name, count=130, seed=31, options=()):
    made = globals()[name]
    options = tuple(map(tuple, options))
    origin = (__name__, "history_case", (name, count, seed, options))

    def configure(cerebro):
        cerebro.addstrategy(made, **dict(options))

    return Case(
        f"history {name} {options}", configure, (Feed("A", "1h"),), (random_bars(seed, count),), origin
    )
