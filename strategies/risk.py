"""Risk rules as a part of Backtrader's broker, so that a backtest, paper and the engine know the same ones.

The broker is the one place that every order passes, the strategy's and ours, and passes again when it
fills. A rule that stood before the broker would not see the fill; one that stood in the strategy could be
forgotten by it. Its counters are plain attributes of the broker, so they are in the state like its cash:
after a restart or a replay a limit has counted exactly the fills that are in the ledger.

What is true between any two bars: the sizes of all waiting entries are within the limits together with
what is open (every one was asked when it came, with the others counted in), and every position of a
guarded bot has its protective orders or has changed at this bar. There is no moment at which a position
stands without protection and a bar can fill something: protection is placed at the end of the same `next`
in which the position changed.

Entries. An order, or the part of it, that would open or enlarge a position is an entry; what reduces one is
an exit and is never refused. An entry beyond a limit is Rejected at once; its info says `refused_by` and
`reason`. An order that reverses a position and may not open the other one is cut to the part that closes.
An order is asked again when it fills, if the position has changed so that it would open more than before.
A day is the UTC date of a bar's stamp; an entry counts on the day of its first fill. The fill that reaches
max_daily_loss also cancels the entries that wait, and cuts what reverses.

Protection. At the end of each bar every position has a Stop (stop_loss_pct) and a Limit (take_profit_pct)
order for its whole size, one cancelling the other, at a distance from its average entry price; Backtrader can
fill them from the next bar on. If one bar reaches both prices the stop fills: nobody knows which came first.
A protective order and an order of the strategy never both fill, so the position is never flipped:
- a fill that changes the position cancels the protective orders; new ones replace them at the end of the bar;
- a due market order on their side fills first (both would fill at the open at the earliest);
- a protective fill cancels every waiting order on its side of that feed, which was sized for what has gone,
  but the children of a bracket whose parent still waits.
The strategy cannot cancel them: a limit on the damage is not the strategy's to lift.
"""

from collections.abc import Iterator
from typing import Any, Final

import backtrader as bt

RISK: Final = "risk_management"
DUST: Final = 1e-9  # share of an order's size that rounding may leave over


class RiskBroker(bt.brokers.BackBroker):  # type: ignore[misc]  # Backtrader has no types
    """Backtrader's broker with limits; None means no limit. What it counts does not grow with age."""

    params = (
        ("stop_loss_pct", None),
        ("take_profit_pct", None),
        ("max_position_size", None),  # quote currency, of each feed
        ("max_positions", None),  # entries open at once, of all feeds
        ("max_daily_loss", None),  # quote currency, realised, after commission
        ("max_daily_trades", None),  # entries
    )

    def init(self) -> None:
        super().init()
        self.day = 0  # whole days as Backtrader counts them; the next two belong to it
        self.day_entries = 0
        self.day_result = 0.0
        self.open_entries: dict[Any, int] = {}  # of each feed with a position
        self.keepers: dict[Any, tuple[Any, int]] = {}  # who entered last: strategy and its tradeid

    def submit(self, order: Any, check: bool = True) -> Any:
        order.entered = False
        order.opens = 0.0 if is_protective(order) else self._opening(order)
        if not order.opens or self._allow(order, order.opens):
            return super().submit(order, check)
        self.notify(order)
        return order

    def cancel(self, order: Any, bracket: bool = False) -> Any:
        return False if is_protective(order) else super().cancel(order, bracket)

    def next(self) -> None:
        super().next()
        for data, position in list(self.positions.items()):
            if position.size and self._guarded() and not any(self._protective(data)):
                self._protect(data, position)

    def _try_exec(self, order: Any) -> None:
        data = order.data
        # Backtrader tries a feed's last bar again while other feeds go on: that bar came before the order.
        seen = data.datetime[0] <= order.created.dt
        if is_protective(order) and (seen or self._market_order_due(order)):
            return
        before = self.getposition(data).size
        super()._try_exec(order)
        after = self.getposition(data).size
        if after == before:
            return
        self._count(order, before, after)
        if is_protective(order):
            self._cancel_all(each for each in self._live(data) if _sized_for_the_same(each, order))
        else:
            self._cancel_all(self._protective(data))
        if self._lost_too_much():
            self._cancel_entries(self._loss_reason())

    def _execute(self, order: Any, ago: Any = None, price: Any = None, *rest: Any, **named: Any) -> Any:
        if ago is not None and price is not None and not self._may_fill(order):
            self.notify(order)
            self._ococheck(order)
            self._bracketize(order, cancel=True)
            return None
        return super()._execute(order, ago, price, *rest, **named)

    def _ococheck(self, order: Any) -> None:
        partners = list(self._protective(order.data)) if is_protective(order) else []
        super()._ococheck(order)
        for each in partners:
            if not each.alive():
                # Backtrader never forgets an order that its partner cancels.
                self._pchildren.pop(each.ref, None)

    # What waits. None marks the end of the queue while the broker goes through it.

    def _live(self, data: Any = None) -> list[Any]:
        queues = (*self.submitted, *self.pending)
        return [each for each in queues if each is not None and (data is None or each.data is data)]

    def _protective(self, data: Any) -> Iterator[Any]:
        return (each for each in self._live(data) if is_protective(each))

    def _market_order_due(self, order: Any) -> bool:
        return any(
            each.exectype == bt.Order.Market and each.active() and each.isbuy() == order.isbuy()
            for each in self._live(order.data)
        )

    def _projected(self, data: Any) -> float:
        """Return the position that is left once the market orders that wait are filled."""
        waiting = (each for each in self._live(data) if each.exectype == bt.Order.Market and each.active())
        size: float = self.getposition(data).size
        for each in waiting:
            size += each.executed.remsize
        return size

    # Entries

    def _may_fill(self, order: Any) -> bool:
        """Ask again if the position has changed and the order would now open more than was allowed."""
        remaining, position = order.executed.remsize, self.getposition(order.data).size
        opens = abs(remaining) - (0.0 if remaining * position >= 0 else abs(position))
        if 0 < opens <= DUST * abs(remaining):
            # 0.1 + 0.2 sold of 0.3: what rounding added would stay as a position of its own.
            _cut(order, abs(position))
            return True
        return opens <= order.opens or self._allow(order, opens)

    def _allow(self, order: Any, opens: float) -> bool:
        """Tell whether an order may go on, cut to what it closes if its opening part is refused."""
        refusal = self._refusal(order, opens)
        if refusal is None:
            order.opens = opens
            return True
        order.addinfo(refused_by=RISK, reason=refusal)
        order.opens = 0.0
        closes = abs(order.executed.remsize) - opens
        if closes <= DUST * abs(order.executed.remsize):
            order.reject()
            return False
        _cut(order, closes)
        return True

    def _opening(self, order: Any) -> float:
        """Return the part of an order's size that would open or enlarge a position."""
        size = abs(order.size)
        parent = order.parent
        if parent is not None and parent.isbuy() != order.isbuy():
            standing = 0.0 if refused(parent) else abs(parent.size)
        else:
            projected = self._projected(order.data)
            standing = 0.0 if projected * order.size >= 0 else abs(projected)
        opens = max(0.0, size - standing)
        return opens if opens > DUST * size else 0.0

    def _refusal(self, order: Any, opens: float) -> str | None:
        if order.parent is not None and refused(order.parent):
            return "its entry was refused"
        self._turn_day(order.data)
        waiting = [each for each in self._live() if each.opens]
        p = self.p
        if self._lost_too_much():
            return self._loss_reason()
        if p.max_daily_trades is not None and self.day_entries + len(waiting) >= p.max_daily_trades:
            return f"max_daily_trades {p.max_daily_trades}: {self.day_entries} today, {len(waiting)} waiting"
        if p.max_positions is not None and self._entries_beside(order) + len(waiting) >= p.max_positions:
            return (
                f"max_positions {p.max_positions}: {self._entries_beside(order)} open, {len(waiting)} waiting"
            )
        if (
            p.max_position_size is not None
            and (value := self._value_with(order, opens)) > p.max_position_size
        ):
            return f"max_position_size {p.max_position_size:g}: would be {value:g}"
        return None

    def _lost_too_much(self) -> bool:
        limit: float | None = self.p.max_daily_loss
        return limit is not None and self.day_result <= -limit

    def _loss_reason(self) -> str:
        return f"max_daily_loss {self.p.max_daily_loss:g}: lost {-self.day_result:g} today"

    def _cancel_entries(self, reason: str) -> None:
        for each in self._live():
            if each.opens:
                each.addinfo(refused_by=RISK, reason=reason)
                closes = abs(each.executed.remsize) - each.opens
                each.opens = 0.0
                if closes > DUST * abs(each.size):
                    _cut(each, closes)
                else:
                    super().cancel(each)

    def _entries_beside(self, order: Any) -> int:
        """Return how many entries are open, without those that are closed before this one opens."""
        reverses = self.getposition(order.data).size * order.size < 0
        gone = self.open_entries.get(order.data, 0) if reverses else 0
        return sum(self.open_entries.values()) - gone

    def _value_with(self, order: Any, opens: float) -> float:
        """Return the value of the feed's position with all entries of this side filled, in quote currency."""
        projected = self._projected(order.data)
        standing = abs(projected) if projected * order.size > 0 else 0.0
        resting = sum(
            each.opens
            for each in self._live(order.data)
            if each.exectype != bt.Order.Market and each.isbuy() == order.isbuy()
        )
        value: float = (standing + resting + opens) * order.created.price
        return value

    def _turn_day(self, data: Any) -> None:
        day = int(data.datetime[0])
        if day > self.day:
            self.day, self.day_entries, self.day_result = day, 0, 0.0

    def _count(self, order: Any, before: float, after: float) -> None:
        data = order.data
        self._turn_day(data)
        fill = order.executed[-1]
        self.day_result += fill.pnl - fill.comm
        if not after:
            self.open_entries.pop(data, None)
            self.keepers.pop(data, None)
        elif fill.opened:
            self.keepers[data] = (order.owner, order.tradeid)
            # Partial fills of one entry are one entry.
            if not order.entered:
                order.entered = True
                self.day_entries += 1
                self.open_entries[data] = 1 + (self.open_entries.get(data, 0) if before * after > 0 else 0)

    # Protection

    def _guarded(self) -> bool:
        return self.p.stop_loss_pct is not None or self.p.take_profit_pct is not None

    def _protect(self, data: Any, position: Any) -> None:
        owner, tradeid = self.keepers.get(data) or (self.cerebro.runningstrats[0], 0)
        side = -1 if position.size < 0 else 1
        order_type = bt.order.SellOrder if side > 0 else bt.order.BuyOrder
        stop = None
        for percent, exectype, reason in (
            (self.p.stop_loss_pct, bt.Order.Stop, "stop_loss"),
            (self.p.take_profit_pct, bt.Order.Limit, "take_profit"),
        ):
            away = -side if exectype == bt.Order.Stop else side
            price = 0.0 if percent is None else position.price * (1 + away * percent / 100)
            if price <= 0:  # a short position cannot gain more than 100 %
                continue
            order = order_type(
                owner=owner,
                data=data,
                size=abs(position.size),
                price=price,
                exectype=exectype,
                tradeid=tradeid,
            )
            order.addinfo(logic=RISK, reason=reason)
            self._ocoize(order, stop)
            stop = order
            # By the class and not by self: a bot that is stopped from trading must not be left unprotected.
            # It closes what is there and needs no cash. Accepted at once, it can be withdrawn at once.
            RiskBroker.submit(self, order, check=False)

    def _cancel_all(self, orders: Any) -> None:
        for order in list(orders):
            super().cancel(order)


def is_protective(order: Any) -> bool:
    return bool(order.info.get("logic") == RISK)


def refused(order: Any) -> bool:
    return bool(order.info.get("refused_by") == RISK)


def _sized_for_the_same(waiting: Any, filled: Any) -> bool:
    """Tell whether an order waits to reduce the position that a protective order has just closed."""
    if is_protective(waiting) or waiting.isbuy() != filled.isbuy():
        return False
    return waiting.parent is None or not waiting.parent.alive()


def _cut(order: Any, size: float) -> None:
    """Leave `size` to be filled, and the children of a bracket without the entry that they were for."""
    order.executed.remsize = size if order.isbuy() else -size
    order.size = order.created.size = order.executed.size + order.executed.remsize
    order.transmit = True
