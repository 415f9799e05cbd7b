"""Strategies written by a grammar: indicators x conditions x orders x attributes, by seed, as source code.

The source goes into a file and is imported from there, as a plug-in of a user would be.
"""

# ruff: noqa: E501  (tables read best with one row on one line)

import importlib
import os
import random
import sys
import tempfile
from pathlib import Path

from exact_bars import random_bars
from exact_run import Case

from strategies.engine import Feed

_FOLDER = "ONEBAR_EXACT_GENERATED"

_SOURCES = (
    *("{d}", "{d}.close", "{d}.high", "{d}.volume", "{d}.close(-{n})", "({d}.high + {d}.low) / 2", "{i}"),
    *("{d}.close - {i}", "bt.Max({d}.open, {i})", "bt.If({d}.close > {d}.open, {d}.high, {i})"),
)
_INDICATORS = (
    *(
        "SMA",
        "EMA",
        "WMA",
        "SMMA",
        "KAMA",
        "RSI",
        "RSI_EMA",
        "StdDev",
        "Highest",
        "Lowest",
        "Momentum",
        "ROC",
    ),
    *("ZLEMA", "HMA", "DEMA", "TEMA", "PercentRank", "SumN", "TrueStrengthIndicator", "Trix", "DPO"),
    *("LaguerreRSI", "MeanDev", "CumSum", "ExponentialSmoothing", "ZLInd", "SMAOsc"),
)
_FEED_INDICATORS = (
    *(
        "ATR",
        "Stochastic",
        "CCI",
        "ADX",
        "AroonUp",
        "Ichimoku",
        "PSAR",
        "WilliamsR",
        "HeikinAshi",
        "UltimateOscillator",
    ),
    *("Vortex", "AwesomeOscillator", "PrettyGoodOscillator", "KST", "UpMove", "DV2"),
)
_CONDITIONS = (
    *("self.{i}[0] > self.{i}[-1]", "self.{i}[0] < self.{k}[0]", "self.{d}.close[0] > self.{i}[0]"),
    *(
        "self.{i}[0] > self.{k}[-1] and len(self) % {n} == 0",
        "self.rng.random() < 0.{n}",
        "self.position.size >= {n}",
    ),
    *("sum(self.recent) > {n}", "self.{d}.close[0] == max(self.{d}.close.get(size=2))"),
    *("self.counts.get({n}, 0) % 3 == 1", "self.mood == 'up' and self.{i}[0] == self.{i}[0]"),
)
_ORDERS = (
    *("self.buy(self.{d})", "self.sell(self.{d}, size={n})", "self.close(self.{d})"),
    "self.buy(self.{d}, exectype=bt.Order.Limit, price=self.{d}.close[0] * 0.99{n})",
    "self.sell(self.{d}, exectype=bt.Order.Stop, price=self.{d}.close[0] * 0.99{n}, valid=datetime.timedelta(hours={n}))",
    "self.buy(self.{d}, exectype=bt.Order.StopTrail, trailpercent=0.0{n})",
    "self.buy_bracket(data=self.{d}, size={n}, limitprice=self.{d}.close[0] * 1.01, stopprice=self.{d}.close[0] * 0.985)[0]",
    "self.order_target_percent(self.{d}, target=0.{n})",
    "self.order_target_size(self.{d}, target=-{n})",
    "self.order_target_value(self.{d}, target={n}00.5)",
    "self.cancel(self.order) if self.order is not None else self.buy(tradeid={n})",
    "self.buy(self.{d}, exectype=bt.Order.StopLimit, price=self.{d}.high[0], plimit=self.{d}.close[0], oco=self.order)",
)
_ATTRIBUTES = (
    *("self.recent.append(len(self) % {n})", "self.counts[{n}] = self.counts.get({n}, 0) + 1"),
    *(
        "self.mood = 'up' if self.{d}.close[0] > self.{d}.open[0] else 'down'",
        "self.best = max(self.best, self.{d}.high[0])",
    ),
    *("self.tree = {{'left': self.tree.get('right'), 'right': (len(self), self.{d}.close[0])}}",),
    *("self.seen ^= {{len(self) % 1{n}}}", "self.money += decimal.Decimal(repr(self.{d}.close[0]))"),
    *(
        "self.memory.last.append(self.order); del self.memory.last[:-{n}]",
        "self.when = self.{d}.datetime.datetime(0)",
    ),
    *(
        "self.by_feed[self.{d}] = self.by_feed.get(self.{d}, 0) + {n}",
        "self.grid[len(self) % 4] += self.{d}.close[0]",
    ),
)

_HEAD = """import collections
import dataclasses
import datetime
import decimal
import random

import backtrader as bt
import numpy as np
from exact_record import note


@dataclasses.dataclass
class Memory:
    last: list


class Written(bt.Strategy):
    def __init__(self):
        self.rng = random.Random({seed})
        self.recent, self.counts, self.mood = collections.deque(maxlen=7), {{}}, "none"
        self.best, self.tree, self.seen, self.money = 0.0, {{}}, set(), decimal.Decimal(0)
        self.memory, self.order, self.when = Memory([]), None, None
        self.by_feed, self.grid = {{}}, np.zeros(4)
"""
_TAIL = """
    def notify_order(self, order):
        self.order = order if order.alive() else None
        self.counts[order.status] = self.counts.get(order.status, 0) + 1

    def notify_trade(self, trade):
        self.memory.last.append(trade.pnl)
        del self.memory.last[:-5]
"""


def written(seed):
    """Return the source code that a seed stands for."""
    rng = random.Random(seed)
    feeds = 1 + seed % 2
    lines, made = [_HEAD.format(seed=seed)], []
    for number in range(rng.randint(2, 5)):
        lines.append(f"        self.i{number} = {_indicator(rng, feeds, made)}\n")
        made.append(f"i{number}")

    def filled(text):
        choice = {"d": f"data{rng.randrange(feeds)}", "n": rng.randint(1, 9)}
        return text.format(i=rng.choice(made), k=rng.choice(made), **choice)

    body = [f"        {filled(rng.choice(_ATTRIBUTES))}\n" for _ in range(rng.randint(2, 6))]
    for _ in range(rng.randint(2, 4)):
        order = filled(rng.choice(_ORDERS))
        body.append(f"        if {filled(rng.choice(_CONDITIONS))}:\n            self.order = {order}\n")
    lines.append("\n    def next(self):\n")
    lines.append(
        "        note(self.mood, list(self.recent), self.counts, self.best, sorted(self.seen), self.money)\n"
    )
    lines += [*body, _TAIL]
    return "".join(lines)


def _indicator(rng, feeds, made):
    data = f"self.data{rng.randrange(feeds)}"
    if rng.random() < 0.3:
        return f"bt.indicators.{rng.choice(_FEED_INDICATORS)}({data})"
    inner = f"self.{rng.choice(made)}" if made else f"{data}.open"
    source = rng.choice(_SOURCES).format(d=data, i=inner, n=rng.randint(1, 5))
    kind = rng.choice(_INDICATORS)
    period = f", period={rng.randint(2, 15)}" if kind not in _FIXED else ""
    return f"bt.indicators.{kind}({source}{period})"


_FIXED = ("TrueStrengthIndicator", "CumSum", "ExponentialSmoothing", "LaguerreRSI", "Trix", "DPO")


def _folder():
    """Return the folder of generated modules; a child process finds it in its environment."""
    if _FOLDER not in os.environ:
        os.environ[_FOLDER] = tempfile.mkdtemp(prefix="onebar-exact-")
    folder = os.environ[_FOLDER]
    if folder not in sys.path:
        sys.path.append(folder)
    return Path(folder)


def written_case(seed, count=200):
    name = f"exact_written_{seed}"
    file = _folder() / f"{name}.py"
    if not file.exists():
        file.write_text(written(seed))
        importlib.invalidate_caches()
    made = importlib.import_module(name).Written
    rng = random.Random(seed)
    cash, commission = rng.choice((2_000, 10_000, 100_000)), rng.choice((0.0, 0.001))

    def configure(cerebro):
        cerebro.broker.setcash(cash)
        cerebro.broker.setcommission(commission=commission)
        if seed % 3 == 0:
            cerebro.broker.set_slippage_perc(0.001)
        cerebro.addstrategy(made)

    feeds = (Feed("A", "1h"), Feed("B", "1h"))[: 1 + seed % 2]
    bars = tuple(random_bars(seed * 3 + number, count, gaps=0.02) for number in range(len(feeds)))
    return Case(f"written {seed}", configure, feeds, bars, (__name__, "written_case", (seed, count)))
