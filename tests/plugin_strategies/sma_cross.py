"""A plain Backtrader strategy as it would stand in anybody's repository: it knows nothing of Onebar."""

import backtrader as bt


class SmaCross(bt.Strategy):
    params = (("fast", 7), ("slow", 25), ("stop", 0.03))

    def __init__(self):
        fast = bt.ind.SMA(period=self.p.fast)
        slow = bt.ind.SMA(period=self.p.slow)
        self.cross = bt.ind.CrossOver(fast, slow)
        self.order = None
        self.stop_price = None
        self.losses = 0

    def notify_order(self, order):
        if order.status in (order.Submitted, order.Accepted):
            return
        if order.status == order.Completed and order.isbuy():
            self.stop_price = order.executed.price * (1 - self.p.stop)
        self.order = None

    def notify_trade(self, trade):
        if trade.isclosed:
            self.losses = self.losses + 1 if trade.pnlcomm < 0 else 0

    def next(self):
        if self.order:
            return
        if not self.position:
            if self.cross > 0 and self.losses < 5:
                self.order = self.buy()
            elif self.losses >= 5:
                self.losses -= 1
        elif self.cross < 0 or self.data.close[0] < self.stop_price:
            self.order = self.close()
