"""How much an order is for, when the strategy does not say. Coins are divisible: no size is rounded."""

from typing import Any

import backtrader as bt


class EquityShare(bt.Sizer):  # type: ignore[misc]  # Backtrader has no types
    """Invests `share` of the equity at the last close; against an open position, closes exactly that.

    A plain `self.sell()` of a long position therefore leaves no remainder. An entry fills at a later price
    and pays commission: a share close to 1 is refused for margin whenever the next bar opens higher.
    """

    params = (("share", 0.1),)

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:
        del comminfo, cash
        size: float = self.broker.getposition(data).size
        if size < 0 if isbuy else size > 0:
            return abs(size)
        price: float = data.close[0]
        equity: float = self.broker.getvalue()
        return self.p.share * equity / price if price > 0 and equity > 0 else 0.0


class FractionalCommission(bt.CommInfoBase):  # type: ignore[misc]  # Backtrader has no types
    """A fraction of the value of each fill; `order_target_value` and its kin get fractional sizes."""

    params = (("stocklike", True), ("commtype", bt.CommInfoBase.COMM_PERC), ("percabs", True))

    def getsize(self, price: float, cash: float) -> float:
        return float(self.p.leverage * cash / price)
