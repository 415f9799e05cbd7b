"""Bars made by hand, a strategy that follows a script, and all that was said about its orders."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import backtrader as bt

START = dt.datetime(2024, 1, 1)  # noqa: DTZ001  # Backtrader's stamps are UTC without a zone
HOUR = dt.timedelta(hours=1)


class OHLC(NamedTuple):
    open: float
    high: float
    low: float
    close: float
    volume: float = 1.0


def flat(price: float, count: int = 1) -> list[OHLC]:
    return [OHLC(price, price, price, price)] * count


class ListFeed(bt.feed.DataBase):
    """Bars of a list, one an hour; None is a bar that this feed misses."""

    params = (("bars", ()), ("step", HOUR), ("timeframe", bt.TimeFrame.Minutes), ("compression", 60))

    def start(self):
        super().start()
        self.at = -1

    def _load(self):
        self.at += 1
        while self.at < len(self.p.bars) and self.p.bars[self.at] is None:
            self.at += 1
        if self.at >= len(self.p.bars):
            return False
        bar = self.p.bars[self.at]
        self.lines.datetime[0] = bt.date2num(START + self.at * self.p.step)
        for name, value in bar._asdict().items():
            getattr(self.lines, name)[0] = value
        self.lines.openinterest[0] = 0.0
        return True


class Said(NamedTuple):
    """One notification of an order. `bar` is the number of the bar at which the strategy heard it."""

    bar: int
    ref: int
    status: str
    side: str
    exectype: str
    size: float
    price: float
    reason: str


@dataclass(frozen=True)
class Ran:
    said: tuple[Said, ...]
    positions: tuple[tuple[float, ...], ...]  # of each feed at each bar
    trades: tuple[float, ...]  # net result of each
    value: float
    strategy: Any

    def fills(self, *statuses: str) -> list[tuple[int, str, float, float, str]]:
        wanted = statuses or ("Completed",)
        return [
            (each.bar, each.side, round(each.size, 9), round(each.price, 9), each.reason)
            for each in self.said
            if each.status in wanted
        ]

    def statuses(self, reason: str) -> list[tuple[int, str]]:
        return [(each.bar, each.status) for each in self.said if reason in each.reason]


class Scripted(bt.Strategy):
    params = (("script", {}), ("every", None))

    def __init__(self):
        self.said = []
        self.positions_seen = []
        self.results = []
        self.made = {}  # what a script keeps for later bars
        self.first_ref = None

    def next(self):
        bar = len(self) - 1
        self.positions_seen.append(tuple(self.getposition(each).size for each in self.datas))
        if bar in self.p.script:
            self.p.script[bar](self)
        if self.p.every:
            self.p.every(self)

    def notify_order(self, order):
        self.first_ref = self.first_ref or order.ref
        filled = order.executed.size != 0
        self.said.append(
            Said(
                len(self) - 1,
                order.ref - self.first_ref + 1,
                order.getstatusname(),
                "buy" if order.isbuy() else "sell",
                order.getordername(),
                order.executed.size if filled else order.created.size,
                order.executed.price if filled else order.created.price,
                order.info.get("reason", ""),
            )
        )

    def notify_trade(self, trade):
        if trade.isclosed:
            self.results.append(round(trade.pnlcomm, 9))


def run(
    bars: Sequence[OHLC | None] | Sequence[Sequence[OHLC | None]],
    script: Mapping[int, Callable[[Scripted], object]],
    broker: bt.BrokerBase | None = None,
    cash: float = 10_000.0,
    commission: float = 0.0,
    **params: object,
) -> Ran:
    feeds = bars if isinstance(bars[0], list) else [bars]
    cerebro = bt.Cerebro(stdstats=False)
    if broker is not None:
        cerebro.setbroker(broker)
    cerebro.broker.setcash(cash)
    cerebro.broker.setcommission(commission=commission)
    for number, each in enumerate(feeds):
        cerebro.adddata(ListFeed(bars=tuple(each)), name=f"feed{number}")
    cerebro.addstrategy(Scripted, script=dict(script), **params)
    strategy = cerebro.run(runonce=False)[0]
    return Ran(
        tuple(strategy.said),
        tuple(strategy.positions_seen),
        tuple(strategy.results),
        cerebro.broker.getvalue(),
        strategy,
    )
