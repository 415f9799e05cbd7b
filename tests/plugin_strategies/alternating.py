"""Buys on even bars and closes on odd ones: something to lose at every moment."""

import backtrader as bt


class Alternating(bt.Strategy):
    def next(self):
        if len(self) % 2 == 0:
            self.buy()
        elif self.position:
            self.close()
