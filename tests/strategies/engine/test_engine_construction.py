"""The shorter constructors make what Backtrader's own make: names, order, values, owners."""

import re
from collections.abc import Callable
from typing import Any

import backtrader as bt
import pytest

from strategies.engine import construction
from strategies.engine.construction import REPLACED, quickly
from strategies.engine.feed import new_feed
from strategies.engine.machine import _PausedCerebro, _run_to_the_loop
from strategies.engine.values import Feed

HOMES = [(home, name) for home, name, _ in REPLACED]


class Mixed(bt.Indicator):
    lines = ("up", "down")
    params = (("period", 5), ("factor", 2.0))
    plotinfo = (("subplot", False),)

    def __init__(self) -> None:
        self.lines.up = bt.Max(self.data.high - 1.0, 0.0) / bt.ind.SMA(self.data, period=self.p.period)
        self.lines.down = bt.If(self.data(-1) > self.data, self.data.low, 3.0)


class Everything(bt.Strategy):
    params = (("period", 7),)

    def __init__(self) -> None:
        self.mixed = Mixed(self.data, period=self.p.period, plotname="mine", subplot=True)
        self.of_lines = bt.ind.CrossOver(self.mixed.up, self.mixed.lines.down)
        self.levels = bt.ind.CrossUp(self.data, 50.0)
        self.macd = bt.ind.MACDHisto(self.data1)
        self.cloud = bt.ind.Ichimoku()
        self.rsi = bt.ind.RSI(self.data1.close, period=3)
        self.bands = bt.ind.BollingerBands(self.rsi)
        self.sum = self.data.close + self.data1(0)
        self.all = bt.And(self.data > self.mixed, self.data1.close < 5, self.rsi.rsi)


def configure(cerebro: bt.Cerebro) -> None:
    cerebro.resampledata(cerebro.datas[0], timeframe=bt.TimeFrame.Days)
    cerebro.addanalyzer(bt.analyzers.DrawDown)
    cerebro.addobserver(bt.observers.DrawDown)
    cerebro.addsizer(bt.sizers.FixedSize, stake=3)
    cerebro.addstrategy(Everything, period=9)


def built() -> Any:
    cerebro = _PausedCerebro()
    for name in ("A", "B"):
        cerebro.adddata(new_feed(Feed(name, "1h")), name=name)
    configure(cerebro)
    _run_to_the_loop(cerebro)
    return cerebro


def kind_of(thing: Any) -> str:
    """Return the name of a class, without the numbers of those that Backtrader makes for one object."""
    return re.sub("[0-9a-f]{32}|Coupler_[0-9]+", "", type(thing).__name__)


def shape_of(root: Any) -> list[Any]:
    """Describe everything that hangs on an object, in order, by the number of its first meeting."""
    seen: dict[int, int] = {}
    kept, found = [root], []

    def told(value: Any) -> Any:
        if isinstance(value, bt.LineRoot | bt.metabase.AutoInfoClass | bt.Cerebro | list | dict) or hasattr(
            value, "lines"
        ):
            if id(value) not in seen:
                seen[id(value)] = len(kept)
                kept.append(value)
            return seen[id(value)]
        return value if isinstance(value, int | float | str | bool | None) else kind_of(value)

    for thing in kept:
        if isinstance(thing, dict):
            content = [(told(key), told(value)) for key, value in thing.items()]
        elif isinstance(thing, list):
            content = [told(value) for value in thing]
        else:
            content = [(name, told(value)) for name, value in vars(thing).items()]
        found.append((kind_of(thing), content))
    return found


def test_shorter_constructors_make_the_same() -> None:
    expected = shape_of(built())
    with quickly():
        found = shape_of(built())
    assert len(expected) > 1_000
    assert found == expected


def test_a_difference_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = shape_of(built())
    monkeypatch.setattr(construction, "line_names", lambda number: (("line_0", "line0"),) * number)
    with quickly():
        assert shape_of(built()) != expected


@pytest.mark.parametrize("fails", [False, True])
def test_backtrader_is_as_it_was_afterwards(*, fails: bool) -> None:
    before: list[Callable[..., Any]] = [vars(home)[name] for home, name in HOMES]
    try:
        with quickly():
            assert [vars(home)[name] for home, name in HOMES] != before
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert [vars(home)[name] for home, name in HOMES] == before
