"""The shorter constructors make what Backtrader's own make: names, order, values, owners."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from datetime import time
from typing import Any

import backtrader as bt
import pytest

from strategies.engine import construction
from strategies.engine.blueprints import is_plain_action, is_plain_indicator, is_plain_series
from strategies.engine.construction import REPLACED, quickly
from strategies.engine.machine.cerebro import _PausedCerebro, _run_to_the_loop
from strategies.engine.machine.feed import new_feed
from strategies.engine.owners import owner_of
from strategies.values import Feed

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


def configure_everything(cerebro: bt.Cerebro) -> None:
    cerebro.resampledata(cerebro.datas[0], timeframe=bt.TimeFrame.Days)
    cerebro.addanalyzer(bt.analyzers.DrawDown)
    cerebro.addobserver(bt.observers.DrawDown)
    cerebro.addsizer(bt.sizers.FixedSize, stake=3)
    cerebro.addstrategy(Everything, period=9)


def raised_by(make: Callable[[], object]) -> str:
    try:
        make()
    except Exception as error:  # noqa: BLE001 -- whatever it is, the two ways are compared by it
        return f"{type(error).__name__}: {error}"
    return ""


class AllIndicators(bt.Strategy):
    """Each indicator of Backtrader by itself, with what it makes or what it raises."""

    def __init__(self) -> None:
        self.raised = []
        known = {id(cls): cls for cls in vars(bt.indicators).values() if isinstance(cls, type)}
        for cls in known.values():
            # The one left out changes its own class whenever an object of it is made.
            if issubclass(cls, bt.Indicator) and cls is not bt.indicator.LinePlotterIndicator:
                self.raised += [raised_by(lambda cls=cls: cls(self.data)), raised_by(cls)]


class Delayed(bt.Indicator):
    lines = ("late", "early")

    def __init__(self) -> None:
        self.lines.late = self.data(-3)
        self.lines[1] = self.data.high(2)
        super().__init__()


class OnLines(bt.linebuffer.LineActions):
    params = (("weight", 2.0),)

    def __init__(self, *lines: Any) -> None:
        super().__init__()
        self.given = list(lines)


class Expressions(bt.Strategy):
    """Operations of every kind, delays both ways, couplers, numbers as datas."""

    def __init__(self) -> None:
        low, high = self.data.low, self.data1.high
        self.found = [-low, abs(high), low**2, 3.0 / high, low // 2, 1 - high, low == high, low != 5, 2 * low]
        self.found += [
            bt.Or(low > 1, high < 2),
            bt.Any(low, high),
            bt.Sum(low, high, self.data),
            bt.Min(1.0, low),
        ]
        self.found += [bt.Cmp(low, high), bt.DivByZero(low, high, zero=1.0), bt.Reduce(max, low, high)]
        self.found += [self.data1(), self.data1.close(), self.data1.low(self.data)]
        self.found += [
            OnLines(self.data1, low, weight=3.0),
            OnLines(7.0),
            OnLines(bt.ind.SMA(low(-4), period=9)),
        ]
        self.found += [Delayed(self.data1), bt.ind.CrossDown(low, 5.0), bt.ind.Highest(low - high, period=4)]
        self.raised = [raised_by(OnLines), raised_by(lambda: OnLines(low, wait=1))]


class Fails(bt.Indicator):
    lines = ("line",)

    def __init__(self) -> None:
        bt.ind.SMA(self.data)
        raise LookupError("on purpose")


class ByOtherNames(bt.Indicator):
    """Owners are found where `self` has another name, is a cell, or stands in a namespace."""

    lines = ("a", "b")
    params = (("way", "this"),)

    def __init__(this) -> None:  # noqa: N805 -- that is the case
        if this.p.way == "this":
            this.lines.a = bt.ind.SMA(this.data, period=2) - this.data.low
        elif this.p.way == "cell":
            self = this

            def made_inside() -> Any:
                return bt.ind.EMA(self.data, period=3) * 2

            this.lines.b = made_inside()
        elif this.p.way == "generator":
            this.lines.b = next(bt.ind.EMA(this.data) for _ in (1,))
        else:
            made: dict[str, Any] = {"bt": bt, this.p.way: this}
            exec(f"made = bt.ind.WMA({this.p.way}.data) + 1.0", made)  # noqa: S102 -- a frame whose variables are a namespace
            this.lines.a = made["made"]


class Skips(bt.Indicator):
    lines = ("a",)

    def __init__(self) -> None:
        self.mine = bt.ind.SMA(self.data)
        self.above = bt.ind.SMA(self.data, _ownerskip=self)
        self.lines.a = OnLines(self.data, _ownerskip=self)


class WithoutClock(bt.Indicator):
    lines = ("a",)
    _mindatas = 0

    def __init__(self, *args: Any) -> None:
        self.args = list(args)
        self.clocked_by = self.datas
        self.datas = []  # with its owner there, Backtrader's `_stage2` does not come to an end


class Wrong(bt.Strategy):
    """What a wrong strategy gets: the type of the exception and its text."""

    def __init__(self) -> None:
        sma, data = bt.ind.SMA, self.data
        self.raised = [
            raised_by(lambda: Fails(data)),
            raised_by(lambda: sma(data, 5)),
            raised_by(lambda: sma(data, peroid=5)),
            raised_by(lambda: sma(data, period="5")),
            raised_by(lambda: bt.Indicator(data)),
            raised_by(lambda: bt.ind.CrossOver(data, None)),
            raised_by(lambda: data.close - "1"),
            raised_by(lambda: data(None, None, None)),
            raised_by(lambda: data.close("1")),
            raised_by(bt.If),
            raised_by(lambda: setattr(Delayed(data).lines, "late", 5)),
        ]
        assert len(set(self.raised)) > 8
        self.found = [ByOtherNames(way=way) for way in ("this", "cell", "self", "_obj", "generator")]
        self.found += [Skips(), Skips(data.close), WithoutClock(5, 6), WithoutClock(data, 6), WithoutClock()]


class OwnSteps(bt.indicator.Indicator.__class__):
    def donew(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 -- a metaclass
        _obj, args, kwargs = super().donew(*args, **kwargs)
        _obj.stepped = bt.ind.SMA(period=2)
        return _obj, args, kwargs

    def dopostinit(cls, _obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 -- a metaclass
        _obj.ended = len(vars(_obj))
        return super().dopostinit(_obj, *args, **kwargs)


class ByMetaclass(bt.Indicator, metaclass=OwnSteps):
    lines = ("a",)


class ByShadow(bt.Indicator):
    lines = ("a",)

    @classmethod
    def dopreinit(cls, _obj: Any, *args: Any, **kwargs: Any) -> Any:
        _obj._clock = _obj.data
        _obj.shadowed = True
        return _obj, args, kwargs


class ByNew(bt.Indicator):
    lines = ("a",)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        made.first = len(args) + len(kwargs)
        return made


class BySetting(bt.Indicator):
    lines = ("a",)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(f"{name}_kept" if name.startswith("data0") else name, value)


class ByProperty(bt.Indicator):
    lines = ("a",)

    @property
    def data0(self) -> Any:
        return self.elsewhere

    @data0.setter
    def data0(self, data: Any) -> None:
        self.elsewhere = data


class ByPackages(bt.Indicator):
    lines = ("a",)
    packages = ("math",)
    frompackages = (("operator", "add"),)


class ActionByNew(OnLines):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        made.first = len(args) + len(kwargs)
        return made


class OwnLines(bt.lineseries.Lines):
    def __init__(self, initlines: Any = None) -> None:
        super().__init__(initlines)
        self.own = True


class ByLines(bt.Indicator):
    lines = ("a",)


ByLines.lines = OwnLines._derive("ByLines", ("a",), 0, [])


class ByParameters(bt.Indicator):
    lines = ("a",)
    params = (("period", 3),)


class OwnParameters(ByParameters.params):
    def __init__(self) -> None:
        self.own = True


ByParameters.params = OwnParameters


class OwnWays(bt.Strategy):
    """Classes with something of their own on the way, which go Backtrader's way."""

    def __init__(self) -> None:
        classes = (ByMetaclass, ByShadow, ByNew, BySetting, ByProperty, ByPackages, ByLines, ByParameters)
        self.found = [cls(data) for cls in classes for data in (self.data, self.data1.low)]
        self.found += [ActionByNew(self.data), bt.ind.SMA(ByNew(), plotname="named", period=3)]


class OwnPeriod(bt.Indicator):
    lines = ("a",)

    def _periodrecalc(self) -> None:
        self.addminperiod(4)
        super()._periodrecalc()

    def addindicator(self, indicator: Any) -> None:
        self.__dict__.setdefault("added", []).append(indicator)
        super().addindicator(indicator)

    def __init__(self) -> None:
        self.inner = bt.ind.SMA(self.data, period=3) - self.data


class OwnUpdate(OnLines):
    def updateminperiod(self, minperiod: int) -> None:
        super().updateminperiod(minperiod + 2)


class OwnStage(bt.Indicator):
    lines = ("a",)

    def _stage2(self) -> None:
        self.stages = len(vars(self))
        super()._stage2()


class Forces(bt.Indicator):
    lines = ("a",)
    _nextforce = True


class IteratedLines(bt.lineseries.Lines):
    def __iter__(self) -> Any:
        return iter(self.lines[:1])


class ByIteration(bt.Indicator):
    lines = ("a", "b")


ByIteration.lines = IteratedLines._derive("ByIteration", ("a", "b"), 0, [])


class OwnAliases(bt.Indicator):
    lines = ("a", "b")

    def _getlinealias(self, at: int) -> str:
        return f"own{at}"


class Replacing(bt.Indicator):
    """Works on its lines by number, and has one operation after another made by itself as a whole."""

    lines = ("a", "b", "c")

    def __init__(self) -> None:
        made = bt.ind.SMA(self.data, period=4)
        self.lines[0] = made**2 - made
        self.lines[1] = made(-2)
        self.l[2] = self.data.low
        self.asked = [
            made._makeoperation(self.data.low, max),
            made._makeoperationown(abs),
            self._makeoperation(made.lines[0], min, _ownerskip=made),
            made.lines[0]._makeoperation(5.0, max, r=True),
        ]


class Bypasses(bt.Strategy):
    """Steps after the first ones that are a class's own, and constructors that are called directly."""

    def __init__(self) -> None:
        low, operation = self.data.low, bt.linebuffer.LinesOperation
        delay = bt.linebuffer._LineDelay
        self.found = [
            OwnPeriod(),
            OwnPeriod(self.data1.low),
            OwnUpdate(low),
            OwnStage(),
            Forces(),
            Replacing(),
        ]
        self.found += [bt.ind.SMA(ByIteration()), bt.ind.SMA(OwnStage(), period=2), ByIteration(low)]
        self.found += [
            operation(low, 2.0, max),
            operation(low, b=low, operation=max),
            operation(2, low, max, r=1),
        ]
        self.found += [delay(low, ago=-2), delay(low, -3), bt.linebuffer.LineNum(4.0)]
        self.found += [self.data.datetime > time(9), self.data1.datetime < time(17)]
        self.found += [bt.ind.SMA(OwnAliases(), period=2)]
        self.raised = [
            raised_by(lambda: operation(low)),
            raised_by(lambda: operation(low, 2.0, max, r=True, q=1)),
            raised_by(lambda: operation(low, 2.0, r=True)),
            raised_by(lambda: delay(low)),
            raised_by(lambda: delay(low, "1")),
            raised_by(lambda: delay(low, 1, 2)),
        ]
        assert all(self.raised)


class OwnData(bt.Strategy):
    def __init__(self) -> None:
        inner = bt.ind.SMA()
        inner.datas = [inner]


def configure_two_strategies(cerebro: bt.Cerebro) -> None:
    cerebro.addstrategy(Everything, period=4)
    cerebro.addstrategy(Expressions)
    cerebro.addindicator(bt.ind.SMA, period=6)
    cerebro.addobservermulti(bt.observers.Value)


def configure_cached(cerebro: bt.Cerebro) -> None:
    cerebro.p.objcache = True
    cerebro.addstrategy(Everything)


def adding(strategy: Any) -> Callable[[Any], None]:
    return lambda cerebro: cerebro.addstrategy(strategy)


CONFIGURED = {
    "everything": configure_everything,
    "two strategies": configure_two_strategies,
    "object cache": configure_cached,
    "all indicators": adding(AllIndicators),
    "expressions": adding(Expressions),
    "wrong": adding(Wrong),
    "own ways": adding(OwnWays),
    "bypasses": adding(Bypasses),
}


def built(configure: Callable[[Any], None] = configure_everything) -> Any:
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
        return repr(value) if isinstance(value, int | float | str | bool | None) else kind_of(value)

    for thing in kept:
        if isinstance(thing, dict):
            content = [(told(key), told(value)) for key, value in thing.items()]
        elif isinstance(thing, list):
            content = [told(value) for value in thing]
        else:
            content = [(name, told(value)) for name, value in vars(thing).items()]
        found.append((kind_of(thing), content))
    return found


@pytest.mark.parametrize("configure", CONFIGURED.values(), ids=CONFIGURED)
def test_shorter_constructors_make_the_same(configure: Callable[[Any], None]) -> None:
    expected = shape_of(built(configure))
    with quickly():
        found = shape_of(built(configure))
    assert len(expected) > 500
    assert found == expected


@pytest.mark.parametrize("steps", [nullcontext, quickly])
def test_an_indicator_that_is_its_own_data_never_starts(steps: Any) -> None:
    with steps(), pytest.raises(RecursionError):
        built(adding(OwnData))


def test_operators_compute_after_the_start() -> None:
    with quickly():
        strategy = built().runningstrats[0]
    below = [strategy, *strategy.datas, *strategy._lineiterators[0], *strategy._lineiterators[2]]
    assert all(thing._opstage == 2 for thing in below)
    assert all(line._opstage == 2 for thing in below for line in thing.lines)


class Owner(str):
    __slots__ = ()


def of_both_names(find: Any) -> Any:
    self, _obj = Owner("self"), Owner("_obj")
    return find(None, Owner, 1), (self, _obj)


def of_the_second_name(find: Any) -> Any:
    _obj = Owner("second")
    return find(None, Owner, 1), _obj


def of_a_cell(find: Any) -> Any:
    self = Owner("cell")
    return find(None, Owner, 1), lambda: self


def of_a_closure() -> Any:
    self = Owner("closure")
    return lambda find: (find(None, Owner, 1), self)


def of_a_namespace(find: Any) -> Any:
    names = {"find": find, "Owner": Owner, "_obj": Owner("namespace")}
    exec("found = find(None, Owner, 1)", names)  # noqa: S102 -- a frame whose variables are a namespace
    return names["found"], None


@pytest.mark.parametrize("find", [bt.metabase.findowner, owner_of])
def test_owners_are_found_by_name_in_every_kind_of_frame(find: Any) -> None:
    assert of_both_names(find)[0] == "self"
    assert find(None, Owner, 10_000) is None
    assert of_the_second_name(find)[0] == "second"
    assert of_a_cell(find)[0] == "cell"
    assert of_a_closure()(find)[0] == "closure"
    assert of_a_namespace(find)[0] == "namespace"


@pytest.mark.parametrize("find", [bt.metabase.findowner, owner_of])
def test_what_is_owned_or_skipped_is_no_owner(find: Any) -> None:
    self, _obj = Owner("self"), Owner("_obj")
    assert find(None, Owner, 1) is self
    assert find(self, Owner, 1) is _obj
    assert find(None, Owner, 1, skip=self) is _obj
    assert find(_obj, Owner, 1, skip=self) is None


def test_feeds_are_the_same() -> None:
    expected = shape_of(new_feed(Feed("A", "4h")))
    with quickly():
        assert shape_of(new_feed(Feed("A", "4h"))) == expected


@pytest.mark.parametrize("cls", [ByMetaclass, ByShadow, ByNew, BySetting, ByProperty, ByPackages, ByLines])
def test_classes_with_something_of_their_own_are_not_plain(cls: Any) -> None:
    assert not is_plain_indicator(cls)


def test_most_classes_are_plain() -> None:
    kinds = [cls for cls in vars(bt.indicators).values() if isinstance(cls, type)]
    indicators = [cls for cls in kinds if issubclass(cls, bt.Indicator)]
    assert sum(map(is_plain_indicator, indicators)) > 0.9 * len(indicators)
    assert all(map(is_plain_action, (bt.If, bt.And, bt.linebuffer.LinesOperation, OnLines)))
    assert all(
        map(is_plain_series, (bt.Strategy, bt.observers.Broker, bt.lineseries.LineSeriesStub, Everything))
    )


def test_a_difference_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = shape_of(built())
    monkeypatch.setattr(construction, "line_names", lambda number: (("line_0", "line0"),) * number)
    with quickly():
        assert shape_of(built()) != expected


@pytest.mark.parametrize("fails", [False, True])
def test_backtrader_is_as_it_was_afterwards(*, fails: bool) -> None:
    before: list[Callable[..., Any]] = [vars(home).get(name) for home, name in HOMES]
    try:
        with quickly():
            assert [vars(home).get(name) for home, name in HOMES] != before
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert [vars(home).get(name) for home, name in HOMES] == before
