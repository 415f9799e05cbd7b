"""A strategy with memory: it leaves a position at a trailing low and rests for some bars afterwards."""

import backtrader as bt


class Breakout(bt.Strategy):
    """Buy a close above the highest high of `period` bars; sell below the lowest low of `trail` bars.

    `rest` counts the bars after an exit in which nothing is bought. It is a plain attribute: Onebar
    keeps it in the database like everything else that the strategy remembers.
    """

    params = (("period", 20), ("trail", 10), ("rest", 5))

    def __init__(self) -> None:
        self.highest = bt.indicators.Highest(self.data.high, period=self.p.period)
        self.lowest = bt.indicators.Lowest(self.data.low, period=self.p.trail)
        self.resting = 0

    def next(self) -> None:
        self.resting = max(0, self.resting - 1)
        if self.position:
            if self.data.close[0] < self.lowest[-1]:
                self.close()
                self.resting = self.p.rest
        elif not self.resting and self.data.close[0] > self.highest[-1]:
            self.buy()
