"""Indicators on indicators, on lines of other feeds, on delays and expressions, and ones that users write."""

# ruff: noqa: E501  (tables read best with one row on one line)

import math

import backtrader as bt
from exact_bars import random_bars
from exact_record import note
from exact_run import Case

from strategies.engine import Feed

ind = bt.indicators


class Counting(bt.Indicator):
    """Keeps Python state in attributes: a list, a dict and a number."""

    lines = ("count", "top")
    params = (("period", 4),)

    def __init__(self):
        self.addminperiod(self.p.period)
        self.seen, self.by_sign, self.best = [], {}, -math.inf

    def prenext(self):
        self.seen.append("early")

    def next(self):
        self.seen = [*self.seen[-5:], self.data[0]]
        sign = self.data[0] > self.data[-1]
        self.by_sign[sign] = self.by_sign.get(sign, 0) + 1
        self.best = max(self.best, self.data[0])
        self.lines.count[0] = self.by_sign.get(True, 0) - len(self.seen)
        self.lines.top[0] = self.best


class Recursive(bt.Indicator):
    """Reads its own line one bar back, as most self-written filters do."""

    lines = ("filtered",)
    params = (("alpha", 0.2),)

    def nextstart(self):
        self.lines.filtered[0] = self.data[0]

    def next(self):
        self.lines.filtered[0] = self.lines.filtered[-1] * (1 - self.p.alpha) + self.data[0] * self.p.alpha


class Sticky(bt.Indicator):
    """Remembers through its own line: asks for more of it than any minimum period says."""

    lines = ("held",)
    params = (("ago", 6),)

    def next(self):
        if len(self) <= self.p.ago:
            self.lines.held[0] = self.data[0]
        else:
            self.lines.held[0] = self.lines.held[-self.p.ago] * 0.5 + self.data[0]


class Forced(bt.Indicator):
    """Runs through next even where Backtrader could do it at once."""

    _nextforce = True
    lines = ("value",)
    params = (("period", 5),)

    def __init__(self):
        self.inner = ind.EMA(self.data, period=self.p.period)
        self.total = 0.0

    def next(self):
        self.total += self.inner[0]
        self.lines.value[0] = self.total / len(self)


class Partly(bt.Indicator):
    """Writes only sometimes: what it does not write stays NaN."""

    lines = ("value", "never")

    def next(self):
        if len(self) % 3:
            self.lines.value[0] = self.data[0] + (self.lines.value[-1] if len(self) % 3 == 2 else 0.0)


class BoundLines(bt.Indicator):
    """Declares its lines by expressions alone."""

    lines = ("upper", "lower", "width")
    params = (("period", 7),)

    def __init__(self):
        middle = ind.SMA(self.data, period=self.p.period)
        spread = ind.StdDev(self.data, period=self.p.period)
        self.lines.upper = middle + 2 * spread
        self.lines.lower = middle - 2 * spread
        self.lines.width = (self.lines.upper - self.lines.lower) / middle


class Stairs(bt.Indicator):
    """Writes into the past of its own line, as look-ahead indicators do."""

    lines = ("step",)

    def next(self):
        self.lines.step[0] = self.data[0]
        if len(self) > 3:
            self.lines.step[-1] = (self.data[0] + self.data[-1]) / 2


def _spread(s):
    return s.data0.close - s.data1.close


EXPRESSIONS = {
    "ema of rsi": lambda s: ind.EMA(ind.RSI(s.data, period=5), period=6),
    "rsi of sma of volume": lambda s: ind.RSI(ind.SMA(s.data.volume, period=4), period=5),
    "macd of other feed": lambda s: ind.MACD(s.data1.high, period_me1=4, period_me2=9, period_signal=3),
    "sma of delayed": lambda s: ind.SMA(s.data.close(-3), period=5),
    "delayed": lambda s: s.data.close(-7),
    "delayed data": lambda s: ind.SMA(s.data(-2), period=3),
    "delayed delayed": lambda s: ind.EMA(s.data.close(-2)(-3) - s.data.close, period=3),
    "spread": lambda s: ind.BollingerBands(_spread(s), period=8),
    "ratio": lambda s: ind.SMA(s.data0.close / s.data1.close, period=4),
    "arithmetic": lambda s: (s.data.high + s.data.low) / 2 - s.data.open * 0.5 + (-s.data.close) ** 2,
    "reverse arithmetic": lambda s: 1000 / s.data.close + (3 - s.data.open) + 2 * s.data.low,
    "comparison": lambda s: ind.SMA((s.data.close > s.data.open) * 1.0, period=5),
    "not equal": lambda s: (s.data.close != s.data.open) + (s.data.close == s.data.open),
    "absolute": lambda s: ind.SMA(abs(s.data.close - s.data.open), period=3),
    "if": lambda s: bt.If(s.data.close > s.data.open, s.data.high, s.data.low),
    "if nested": lambda s: bt.If(s.data.close > ind.SMA(s.data, period=5), bt.If(s.data.volume > 150, 1.0, 2.0), -1.0),
    "and": lambda s: bt.And(s.data.close > s.data.open, s.data.volume > 100),
    "or": lambda s: bt.Or(s.data.close > s.data.open, ind.RSI(s.data, period=4) < 30),
    "not": lambda s: bt.Not(s.data.close > s.data.open) if hasattr(bt, "Not") else bt.Or(s.data.close, 0.0),
    "max": lambda s: bt.Max(s.data.close, s.data.open(-1), ind.EMA(s.data, period=3)),
    "min": lambda s: bt.Min(s.data.low, s.data1.low, 110.0),
    "sum": lambda s: bt.Sum(s.data.close, s.data1.close, 1.5),
    "any": lambda s: bt.Any(s.data.close > 120, s.data1.close > 120),
    "all": lambda s: bt.All(s.data.close > 90, s.data1.close > 90, s.data.volume > 50),
    "cmp": lambda s: bt.Cmp(s.data.close, s.data.open),
    "cmp ex": lambda s: bt.CmpEx(s.data.close, s.data.open, s.data.high, s.data.low, s.data.volume),
    "div by zero": lambda s: bt.DivByZero(s.data.close, s.data.volume, zero=-1.0),
    "div zero by zero": lambda s: bt.DivZeroByZero(s.data.close - s.data.open, s.data.volume, single=9.0, dual=8.0),
    "reduce": lambda s: bt.Reduce(lambda a, b: a * 0.5 + b, s.data.close, s.data.open, s.data1.close),
    "max of list": lambda s: bt.Max(*[each.close for each in s.datas]),
    "cross of averages": lambda s: ind.CrossOver(ind.EMA(s.data, period=4), ind.SMA(s.data, period=9)),
    "cross of feeds": lambda s: ind.CrossDown(s.data0.close, s.data1.close),
    "highest of envelope": lambda s: ind.Highest(ind.SMAEnvelope(s.data, period=5).top, period=4),
    "reduce n": lambda s: ind.ReduceN(s.data.close, function=_added, period=4),
    "find first": lambda s: ind.FindFirstIndexHighest(s.data.high, period=6),
    "accum of difference": lambda s: ind.Accum(s.data.close - s.data.close(-1), seed=10.0),
    "stdev with mean": lambda s: ind.StdDev(s.data, ind.EMA(s.data, period=6), period=6),
    "counting": lambda s: Counting(s.data.close),
    "counting of counting": lambda s: Counting(Counting(s.data.close, period=3).top, period=2),
    "recursive": lambda s: Recursive(s.data.close),
    "recursive of recursive": lambda s: Recursive(Recursive(s.data1.close, alpha=0.05), alpha=0.5),
    "sticky": lambda s: Sticky(s.data.close),
    "forced": lambda s: Forced(s.data.close),
    "average of forced": lambda s: ind.SMA(Forced(s.data.close).value, period=3),
    "partly": lambda s: Partly(s.data.close),
    "average of partly": lambda s: ind.SMA(Partly(s.data.close).value, period=2),
    "bound lines": lambda s: BoundLines(s.data),
    "bound lines of rsi": lambda s: BoundLines(ind.RSI(s.data, period=5)).width - 1.0,
    "stairs": lambda s: Stairs(s.data.close),
    "average of stairs": lambda s: ind.SMA(Stairs(s.data.close), period=4),
    "ichimoku part": lambda s: ind.SMA(ind.Ichimoku(s.data, tenkan=4, kijun=6, senkou=9, senkou_lead=5).chikou_span, period=2),
    "heikin ashi": lambda s: ind.HeikinAshi(s.data).ha_close - s.data.close,
    "pivot": lambda s: ind.PivotPoint(s.data).lines.p,
    "strategy line": lambda s: ind.SMA(s.data.close, period=3, plot=False) - ind.WMA(s.data.close, period=3),
}  # fmt: skip


def _added(left, right):
    return left * 0.25 + right


class Expressing(bt.Strategy):
    params = (("name", "delayed"),)

    def __init__(self):
        self.held = EXPRESSIONS[self.p.name](self)

    def next(self):
        note(self.held[0], len(self.held))
        if self.held[0] > self.held[-1]:
            self.order_target_size(target=1)
        else:
            self.close()


def expression_case(name, count=110, seed=21):
    def configure(cerebro):
        cerebro.addstrategy(Expressing, name=name)

    bars = (random_bars(seed, count), random_bars(seed + 1, count))
    origin = (__name__, "expression_case", (name, count, seed))
    return Case(f"expression {name}", configure, (Feed("A", "1h"), Feed("B", "1h")), bars, origin)
