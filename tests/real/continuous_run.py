"""The oracle: one continuous, event-driven, full-history run of plain Backtrader over a CSV file.

Written without anything of the engine: pandas reads the candles, Backtrader's own feed carries them.
`found_ledger` reads what a bot wrote in the same form, to hold the one against the other.
"""

import importlib.util
import sys
from dataclasses import dataclass
from decimal import Decimal

import backtrader as bt
import pandas as pd
import sqlalchemy as sa

from persistence.schema.tables import bot_steps, trading_trades

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


def plain_class(folder, name):
    """Import `module:Class` from a file of `folder` as anybody's Python would, without the plug-in loader."""
    module, _, class_name = name.partition(":")
    spec = importlib.util.spec_from_file_location(f"plain_{module}", folder / f"{module}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # Backtrader looks a parameter's module up there
    spec.loader.exec_module(loaded)
    return getattr(loaded, class_name)


def found_ledger(database, bot_id):
    trades, steps = trading_trades.c, bot_steps.c
    wanted = (
        trades.entry_bar, trades.exit_bar, trades.entry_price, trades.commission, trades.gross_pnl,
        trades.net_pnl, trades.bars,
    )  # fmt: skip
    with database.read() as connection:
        closed = connection.execute(
            sa.select(*wanted).where(trades.bot_id == bot_id).order_by(trades.number)
        ).all()
        equity = connection.execute(
            sa.select(steps.bar, steps.equity, steps.cash).where(steps.bot_id == bot_id).order_by(steps.bar)
        ).all()
    return Ledger([tuple(row) for row in closed], [tuple(row) for row in equity])
