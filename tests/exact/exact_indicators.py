"""Every indicator class of Backtrader, each in a strategy of its own."""

import random

import backtrader as bt
from exact_bars import random_bars
from exact_run import Case

from strategies.engine import Feed

WAYS = ("one feed", "two feeds", "two lines", "line of line")


def names():
    """Return the public names of bt.indicators that are indicators, aliases included."""
    return tuple(
        name
        for name in sorted(vars(bt.indicators))
        if isinstance(getattr(bt.indicators, name), type)
        and issubclass(getattr(bt.indicators, name), bt.Indicator)
    )


class Holder(bt.Strategy):
    params = (("name", "SMA"), ("way", "one feed"), ("settings", ()))

    def __init__(self):
        made = getattr(bt.indicators, self.p.name)
        settings = dict(self.p.settings)
        if "_movav" in settings:
            settings["_movav"] = getattr(bt.indicators, settings["_movav"])
        if self.p.way == "one feed":
            self.held = made(self.data, **settings)
        elif self.p.way == "two feeds":
            self.held = made(self.data0, self.data1, **settings)
        elif self.p.way == "two lines":
            self.held = made(self.data.close, bt.indicators.SMA(self.data, period=3), **settings)
        else:
            self.held = made(bt.indicators.EMA(self.data.close, period=4), **settings)


def indicator_case(name, way, settings=(), seed=1, count=150):
    """Return the case of one class; `settings` are (parameter, value) pairs."""
    settings = tuple(tuple(each) for each in settings)
    feeds = (Feed("A", "1h"), Feed("B", "1h")) if way == "two feeds" else (Feed("A", "1h"),)
    bars = tuple(random_bars(seed * 10 + number, count) for number in range(len(feeds)))

    def configure(cerebro):
        cerebro.addstrategy(Holder, name=name, way=way, settings=settings)

    origin = (__name__, "indicator_case", (name, way, settings, seed, count))
    return Case(f"{name} on {way} {dict(settings)}", configure, feeds, bars, origin)


def random_settings(name, seed):
    """Return legal parameters by seed: numbers near the default, other moving averages."""
    rng = random.Random(f"{name} {seed}")
    found = []
    for key, default in sorted(getattr(bt.indicators, name).params._getitems()):
        if key.startswith("_") and key != "_movav":
            continue
        if rng.random() < 0.3:
            continue
        value = _other(rng, key, default)
        if value is not None:
            found.append((key, value))
    return tuple(found)


def _other(rng, key, default):
    if key == "_movav":
        return rng.choice(("SMA", "EMA", "WMA", "SMMA", "DEMA", "HMA", "ZLEMA", "TEMA", "KAMA"))
    if isinstance(default, bool):
        return rng.random() < 0.5
    if isinstance(default, int):
        largest = max(3, min(2 * default, 40))
        return rng.randint(1, largest) if default > 0 else default + rng.randint(-3, 3)
    if isinstance(default, float):
        return round(default * rng.uniform(0.5, 1.5), 3)
    return None
