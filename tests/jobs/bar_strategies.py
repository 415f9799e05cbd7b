"""A plug-in folder's file: strategies that do exactly one thing, for the tests of the bar job."""

import backtrader as bt


class BuyEveryOther(bt.Strategy):
    """Buys on even bars, closes on odd ones: a trade every two bars."""

    params = (("size", 1.0),)

    def next(self):
        if len(self) % 2 == 0:
            self.buy(size=self.p.size)
        elif self.position:
            self.close()


class FailsOnBar(bt.Strategy):
    params = (("bar", 5),)

    def next(self):
        if len(self) == self.p.bar:
            raise ZeroDivisionError("planted")


class LooksBack(bt.Strategy):
    """Reads deeper and deeper, long after any depth could have been learnt, and remembers what it saw."""

    params = (("depth", 60), ("since", 80))

    def __init__(self):
        self.mean = bt.ind.SMA(period=3)

    def next(self):
        if len(self) >= self.p.since and self.data.close[-self.p.depth] > self.mean[-self.p.depth + 10]:
            if not self.position:
                self.buy(size=0.1)
        elif self.position:
            self.close()


class Remembers(bt.Strategy):
    params = (("step", 1),)

    def __init__(self):
        self.seen = 0

    def next(self):
        self.seen += self.p.step
        if self.seen == 20:
            self.buy(size=1.0)


class Labelled(bt.Strategy):
    """Decides from prices and the position alone; `label` changes the parameters and no decision."""

    params = (("label", "a"),)

    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=3), bt.ind.SMA(period=8))

    def next(self):
        if not self.position and self.cross > 0:
            self.buy()
        elif self.position and self.cross < 0:
            self.close()
