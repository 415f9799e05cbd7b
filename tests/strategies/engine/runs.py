"""Bars by seed, the plain run that is the truth, and steps through engines that are never the same twice."""

import itertools
import random
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

import backtrader as bt

from strategies.engine import Bar, Engine, Feed

HOUR_MS = 3_600_000
START_MS = 1_600_000_000_000 // HOUR_MS * HOUR_MS
X = (Feed("X", "1h"),)
_SEEN: ContextVar[list] = ContextVar("what the strategies of the run under way saw")


def note(*values):
    """Remember what a strategy saw, where an engine has nothing to refuse: it belongs to the context."""
    _SEEN.get([]).append(values)


def seen_by(run):
    """Call `run` and return what strategies noted meanwhile, and its result."""
    seen = []
    token = _SEEN.set(seen)
    try:
        return seen, run()
    finally:
        _SEEN.reset(token)


def bars(count, seed=1):
    rng, price, made = random.Random(seed), 100.0, []
    for number in range(count):
        close = round(price * (1 + rng.gauss(0, 0.02)), 2)
        high, low = round(max(price, close) * 1.004, 2), round(min(price, close) * 0.995, 2)
        volume = round(rng.random() * 1000, 3)
        made.append(Bar(START_MS + number * HOUR_MS, price, high, low, close, volume))
        price = close
    return made


class PlainFeed(bt.feed.DataBase):
    params = (("bars", ()),)

    def start(self):
        super().start()
        self._next = iter(self.p.bars)

    def _load(self):
        bar = next(self._next, None)
        if bar is None:
            return False
        moment = datetime.fromtimestamp(bar.open_time / 1000, UTC).replace(tzinfo=None)
        self.lines.datetime[0] = bt.date2num(moment)
        for name in ("open", "high", "low", "close", "volume"):
            getattr(self.lines, name)[0] = getattr(bar, name)
        self.lines.openinterest[0] = 0.0
        return True


def plain(configure, given):
    """What strategies note in one continuous run of plain Backtrader with the whole history."""
    cerebro = bt.Cerebro()
    cerebro.adddata(PlainFeed(bars=given, timeframe=bt.TimeFrame.Minutes, compression=60), name="X")
    configure(cerebro)
    with numbers_from_one():
        return seen_by(lambda: cerebro.run(runonce=False, preload=True, exactbars=0))[0]


@contextmanager
def numbers_from_one():
    """Plain Backtrader counts orders and trades over all runs of a process, other tests included."""
    order, trade = bt.order.OrderBase, bt.trade.Trade
    before = order.refbasis, trade.refbasis
    order.refbasis, trade.refbasis = itertools.count(1), itertools.count(1)
    try:
        yield
    finally:
        order.refbasis, trade.refbasis = before


def stepped(configure, given, engines=2):
    """What strategies note when the state moves to another engine after every bar; the steps too."""
    places = [Engine(configure, X) for _ in range(engines)]

    def run():
        state, steps = places[0].initial(), []
        for number, bar in enumerate(given):
            steps.append(places[number % engines].step(state, [bar]))
            state = steps[-1].state
        return steps

    return seen_by(run)


def configured(*strategies, **settings):
    """A configure function for strategy classes, with commission and without the standard observers."""

    def configure(cerebro):
        cerebro.p.stdstats = settings.get("stdstats", False)
        for strategy in strategies:
            cerebro.addstrategy(strategy)
        cerebro.broker.setcommission(0.001)

    return configure
