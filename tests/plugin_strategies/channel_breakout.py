"""A plain Backtrader strategy with brackets, shorts, memory in containers and a look far back."""

import collections

import backtrader as bt


class ChannelBreakout(bt.Strategy):
    params = (("period", 20), ("risk", 1.5), ("hold", 30))

    def __init__(self):
        self.top = bt.ind.Highest(self.data.high(-1), period=self.p.period)
        self.bottom = bt.ind.Lowest(self.data.low(-1), period=self.p.period)
        self.atr = bt.ind.ATR(period=14)
        self.bracket = []
        self.bars_in = 0
        self.recent = collections.deque(maxlen=5)
        self.by_side = {"long": 0, "short": 0}

    def notify_order(self, order):
        if not order.alive() and order in self.bracket:
            self.bracket.remove(order)

    def notify_trade(self, trade):
        if trade.isclosed:
            self.recent.append((trade.ref, trade.pnlcomm))

    def next(self):
        if self.position:
            self.bars_in += 1
            if self.bars_in >= self.p.hold:
                for order in list(self.bracket):
                    self.cancel(order)
                self.close()
            return
        self.bars_in = 0
        if self.bracket:
            return
        price, width = self.data.close[0], self.p.risk * self.atr[0]
        if price > self.top[0] and price > self.data.close[-3]:
            self.by_side["long"] += 1
            self.bracket = self.buy_bracket(
                exectype=bt.Order.Market, stopprice=price - width, limitprice=price + 2 * width
            )
        elif price < self.bottom[0] and sum(gain for _, gain in self.recent) >= -1e9:
            self.by_side["short"] += 1
            self.bracket = self.sell_bracket(
                exectype=bt.Order.Market, stopprice=price + width, limitprice=price - 2 * width
            )
