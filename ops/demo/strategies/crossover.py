"""A first strategy of one's own: two moving averages. Plain Backtrader; Onebar asks for nothing else."""

import backtrader as bt


class Crossover(bt.Strategy):
    """Buy when the fast average crosses above the slow one, sell when it crosses below."""

    params = (("fast", 5), ("slow", 20))

    def __init__(self) -> None:
        fast = bt.indicators.SMA(self.data.close, period=self.p.fast)
        slow = bt.indicators.SMA(self.data.close, period=self.p.slow)
        self.cross = bt.indicators.CrossOver(fast, slow)

    def next(self) -> None:
        if not self.position and self.cross[0] > 0:
            self.buy()
        elif self.position and self.cross[0] < 0:
            self.close()
