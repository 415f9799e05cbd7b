"""What happened in a step, as values: order and trade notifications in the order in which they came.

Backtrader's trade does not know which orders made it nor at what price it was left; the recorder
follows the same executions and keeps that for the trades that are open. It changes nothing that a
strategy sees, and its memory (`OpenTrade`, one per open trade) is part of the state.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from backtrader import Order

from strategies.engine.machine.feed import ms_of
from strategies.values import OrderEvent, TradeEvent

PRICED: Final = frozenset(
    {Order.Limit, Order.Stop, Order.StopLimit, Order.StopTrail, Order.StopTrailLimit, Order.Historical}
)
LIMITED: Final = frozenset({Order.StopLimit, Order.StopTrailLimit})
Key = tuple[int, Any]  # index of the feed, tradeid


@dataclass(slots=True)
class OpenTrade:
    """A round trip that is not closed, as far as its trade object does not know it."""

    entry_order: int
    entry_info: Mapping[str, str]
    size: float = 0.0
    largest: float = 0.0
    left: float = 0.0  # size that was closed, unsigned
    left_value: float = 0.0  # size times price of it
    exit_order: int | None = None
    exit_info: Mapping[str, str] = field(default_factory=dict)

    def apply(self, size: float, price: float, order: int, info: Mapping[str, str]) -> None:
        before = self.size
        self.size = before + size
        if abs(self.size) > abs(before):
            if abs(self.size) > abs(self.largest):
                self.largest = self.size
            return
        self.left += abs(size)
        self.left_value += abs(size) * price
        self.exit_order, self.exit_info = order, info


class Recorder:
    """Stands where the broker's notifications pass on to the strategy."""

    __slots__ = ("feeds", "open", "orders", "tell", "trades")

    def __init__(self, tell: Callable[[Any, Any], None], datas: list[Any]) -> None:
        self.tell = tell  # passes a notification on to its strategy
        self.feeds = {id(data): at for at, data in enumerate(datas)}
        self.open: dict[Key, OpenTrade] = {}  # in the state; the two lists are not, they belong to one step
        self.orders: list[OrderEvent] = []
        self.trades: list[TradeEvent] = []

    def notify(self, owner: Any, order: Any) -> None:
        """Record one notification and hand it to its strategy."""
        self.orders.append(order_event(order))
        if not order.executed.size:
            self.tell(owner, order)
            return
        executions = [bit for bit in order.executed.iterpending() if bit is not None]
        before = len(owner._tradespending)
        self.tell(owner, order)
        self._follow(order, executions, owner._tradespending[before:])

    def _follow(self, order: Any, executions: list[Any], trades: list[Any]) -> None:
        data = order.data._compensate
        key = self.feeds[id(order.data if data is None else data)], order.tradeid
        info = texts(order.info)
        closed: list[OpenTrade] = []
        for bit in executions:
            for size in (bit.closed, bit.opened):
                if size:
                    trade = self.open.get(key)
                    if trade is None:
                        trade = self.open[key] = OpenTrade(order.ref, info)
                    trade.apply(size, bit.price, order.ref, info)
                    if not trade.size:
                        closed.append(self.open.pop(key))
        for trade in trades:
            if trade.isclosed:
                known = closed.pop(0) if closed else OpenTrade(order.ref, info)
            else:
                known = self.open.get(key) or (closed[0] if closed else OpenTrade(order.ref, info))
            self.trades.append(trade_event(trade, known))

    def taken(self) -> tuple[tuple[OrderEvent, ...], tuple[TradeEvent, ...]]:
        """Hand over what was recorded since the last time."""
        found = tuple(self.orders), tuple(self.trades)
        self.orders, self.trades = [], []
        return found

    def memory(self) -> tuple[tuple[Any, ...], ...]:
        """Return the open trades as plain values that nothing can share."""
        return tuple(
            (at, tradeid, known.entry_order, tuple(known.entry_info.items()), known.size, known.largest,
             known.left, known.left_value, known.exit_order, tuple(known.exit_info.items()))
            for (at, tradeid), known in self.open.items()
        )  # fmt: skip

    def remember(self, memory: Iterable[tuple[Any, ...]]) -> None:
        """Take back what `memory` returned."""
        self.orders, self.trades = [], []
        self.open = {}
        for at, tradeid, order, info, size, largest, left, value, exit_order, exit_info in memory:
            self.open[at, tradeid] = OpenTrade(
                order, dict(info), size, largest, left, value, exit_order, dict(exit_info)
            )


def texts(info: Mapping[Any, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in info.items()}


def order_event(order: Any) -> OrderEvent:
    executed, created = order.executed, order.created
    parent = order.parent
    return OrderEvent(
        ref=order.ref,
        feed=order.data._name,
        status=order.getstatusname(),
        side="buy" if order.isbuy() else "sell",
        exectype=order.getordername(),
        size=float(created.size),
        price=_number(created.price) if order.exectype in PRICED else None,
        pricelimit=_number(created.pricelimit) if order.exectype in LIMITED else None,
        created_at=ms_of(created.dt),
        executed_size=float(executed.size),
        executed_price=float(executed.price),
        executed_at=ms_of(executed.dt) if executed.size else None,
        commission=float(executed.comm),
        pnl=float(executed.pnl),
        tradeid=order.tradeid,
        parent=None if parent is None else parent.ref,
        info=texts(order.info),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def trade_event(trade: Any, known: OpenTrade) -> TradeEvent:
    return TradeEvent(
        ref=trade.ref,
        feed=trade.data._name,
        tradeid=trade.tradeid,
        is_open=bool(trade.isopen),
        is_long=known.largest > 0 if known.largest else bool(trade.long),
        size=float(trade.size),
        entry_size=float(known.largest),
        entry_price=float(trade.price),
        exit_price=known.left_value / known.left if known.left else None,
        opened_at=ms_of(trade.dtopen),
        closed_at=ms_of(trade.dtclose) if trade.isclosed else None,
        bars=trade.barlen,
        commission=float(trade.commission),
        pnl=float(trade.pnl),
        pnlcomm=float(trade.pnlcomm),
        entry_order=known.entry_order,
        exit_order=known.exit_order,
        entry_info=dict(known.entry_info),
        exit_info=dict(known.exit_info),
    )
