"""The oracle: one continuous, event-driven, full-history run of plain Backtrader over a CSV file.

Written without anything of the engine: pandas reads the candles, Backtrader's own feed carries them.
"""

from dataclasses import dataclass
from decimal import Decimal

import backtrader as bt
import pandas as pd

COLUMNS = ["open", "high", "low", "close", "volume"]


@dataclass(frozen=True)
class Ledger:
    """Money as the shortest decimal that is that double; times in ms since the epoch."""

    trades: list[tuple]
    equity: list[tuple]


class Recorder(bt.Analyzer):
    def start(self):
        self.trades = []
        self.equity = []

    def notify_trade(self, trade):
        if trade.isclosed:
            self.trades.append(
                (
                    stamp(trade.dtopen),
                    stamp(trade.dtclose),
                    exact(trade.price),
                    exact(trade.commission),
                    exact(trade.pnl),
                    exact(trade.pnlcomm),
                    trade.barlen,
                )
            )

    def prenext(self):
        self.next()

    def next(self):
        at = stamp(self.strategy.data.datetime[0])
        self.equity.append(
            (at, exact(self.strategy.broker.getvalue()), exact(self.strategy.broker.getcash()))
        )


class HalfOfEquity(bt.Sizer):
    params = (("share", 0.5),)

    def _getsizing(self, comminfo, cash, data, isbuy):
        del comminfo, cash
        held = self.broker.getposition(data).size
        if held * (1 if isbuy else -1) < 0:
            return abs(held)
        return self.p.share * self.broker.getvalue() / data.close[0]


def stamp(number):
    return round(pd.Timestamp(bt.num2date(number)).timestamp() * 1000)


def exact(value):
    return Decimal(repr(float(value)))


def continuous_run(csv_file, minutes, configure):
    """Run `configure(cerebro)` over all bars of the file and return what it did."""
    frame = pd.read_csv(csv_file)
    frame.index = pd.to_datetime(frame.pop("timestamp"), utc=True).dt.tz_localize(None)
    cerebro = bt.Cerebro()
    feed = bt.feeds.PandasData(
        dataname=frame[COLUMNS], timeframe=bt.TimeFrame.Minutes, compression=minutes, openinterest=None
    )
    cerebro.adddata(feed, name="feed")
    configure(cerebro)
    cerebro.addanalyzer(Recorder, _name="recorder")
    strategy = cerebro.run(runonce=False, preload=True, exactbars=0)[0]
    recorder = strategy.analyzers.recorder
    return Ledger(recorder.trades, recorder.equity)


def plain_setup(strategy, parameters, *, cash, commission):
    """Return a configure function with nothing but Backtrader in it."""

    def configure(cerebro):
        cerebro.broker.setcash(cash)
        cerebro.broker.setcommission(commission=commission)
        cerebro.addsizer(HalfOfEquity)
        cerebro.addstrategy(strategy, **parameters)

    return configure
