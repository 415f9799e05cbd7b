"""All analyzers and observers of Backtrader, and writers, over a trader that trades often."""

import io

import backtrader as bt
from exact_bars import random_bars
from exact_orders import Trader
from exact_run import Case

from strategies.engine import Feed

ANALYZERS = {
    "annual": (bt.analyzers.AnnualReturn, {}),
    "calmar": (bt.analyzers.Calmar, {}),
    "drawdown": (bt.analyzers.DrawDown, {}),
    "time drawdown": (bt.analyzers.TimeDrawDown, {"timeframe": bt.TimeFrame.Days}),
    "gross leverage": (bt.analyzers.GrossLeverage, {}),
    "positions value": (bt.analyzers.PositionsValue, {"cash": True, "headers": True}),
    "log returns": (bt.analyzers.LogReturnsRolling, {"timeframe": bt.TimeFrame.Days}),
    "period stats": (bt.analyzers.PeriodStats, {"timeframe": bt.TimeFrame.Days}),
    "pyfolio": (bt.analyzers.PyFolio, {}),
    "returns": (bt.analyzers.Returns, {"timeframe": bt.TimeFrame.Days}),
    "sharpe": (bt.analyzers.SharpeRatio, {"timeframe": bt.TimeFrame.Days}),
    "sharpe annual": (bt.analyzers.SharpeRatio_A, {"timeframe": bt.TimeFrame.Days}),
    "sqn": (bt.analyzers.SQN, {}),
    "time return": (bt.analyzers.TimeReturn, {"timeframe": bt.TimeFrame.Days}),
    "trades": (bt.analyzers.TradeAnalyzer, {}),
    "transactions": (bt.analyzers.Transactions, {"headers": True}),
    "vwr": (bt.analyzers.VWR, {"timeframe": bt.TimeFrame.Days}),
}
OBSERVERS = {
    "benchmark": (bt.observers.Benchmark, {"timeframe": bt.TimeFrame.Days}),
    "cash": (bt.observers.Cash, {}),
    "value": (bt.observers.Value, {}),
    "fund value": (bt.observers.FundValue, {}),
    "fund shares": (bt.observers.FundShares, {}),
    "drawdown": (bt.observers.DrawDown, {}),
    "drawdown length": (bt.observers.DrawDownLength, {}),
    "drawdown old": (bt.observers.DrawDown_Old, {}),
    "time return": (bt.observers.TimeReturn, {"timeframe": bt.TimeFrame.Days}),
    "log returns": (bt.observers.LogReturns, {}),
    "log returns 2": (bt.observers.LogReturns2, {}),
    "trades": (bt.observers.Trades, {"pnlcomm": False}),
    "data trades": (bt.observers.DataTrades, {}),
    "buy sell": (bt.observers.BuySell, {"barplot": True}),
}


def observed_case(analyzers=(), observers=(), count=200, seed=8, feeds=2, writer=False):
    """Return a case of a trader on some feeds with the named analyzers and observers."""

    def configure(cerebro):
        cerebro.broker.setcommission(commission=0.001)
        cerebro.addstrategy(Trader, seed=seed, often=0.4)
        for name in analyzers:
            made, options = ANALYZERS[name]
            cerebro.addanalyzer(made, _name=name, **options)
        for name in observers:
            made, options = OBSERVERS[name]
            # The benchmark needs to be told its data where a strategy has more than one.
            more = {"data": cerebro.datas[1]} if name == "benchmark" else {}
            cerebro.addobserver(made, **options, **more)
        if writer:
            cerebro.addwriter(bt.WriterFile, out=io.StringIO(), csv=True)

    origin = (__name__, "observed_case", (tuple(analyzers), tuple(observers), count, seed, feeds))
    bars = tuple(random_bars(seed * 7 + number, count, gaps=0.02) for number in range(feeds))
    name = f"analyzers {','.join(analyzers)} observers {','.join(observers)}"
    return Case(name, configure, (Feed("A", "1h"), Feed("B", "1h"))[:feeds], bars, origin)
