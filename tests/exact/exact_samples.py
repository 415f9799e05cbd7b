"""Backtrader's published samples, read from a checkout of theirs: their strategies and settings, their data.

A sample is a script that builds a Cerebro. It is run with a stand-in for `bt.Cerebro` that hands its
settings on to whichever Cerebro is being configured and stops where the sample would run it. Its
feeds are read once into bars, so that both sides get the same.
"""

import contextlib
import importlib.util
import io
import math
import os
import sys
from pathlib import Path

import backtrader as bt
from exact_run import Case

from strategies.engine import Bar, Feed
from strategies.values import interval_ms

_UNITS = {
    bt.TimeFrame.Minutes: "m",
    bt.TimeFrame.Days: "d",
    bt.TimeFrame.Weeks: "w",
    bt.TimeFrame.Seconds: "s",
}
_DAYS = "../../datas/yhoo-1996-2015.txt"
_ARGUMENTS = {
    "macd-settings": ("--data", _DAYS),
    "order_target": ("--target-value",),
    "stop-loss-approaches": ("manual",),
}
_ENTRIES = ("runstrat", "runstrategy", "main", "run")


class NotForThis(Exception):
    """A sample that says nothing about strategies stopped and resumed, with the reason."""


class _Stop(BaseException):
    """Ends a sample where it would run its Cerebro; no `except Exception` of a sample may catch it."""


class _StandIn:
    """What a sample takes for its Cerebro. Feeds are kept aside, all else goes to `real`."""

    def __init__(self, real, **params):
        self.real, self.given = real, []
        for name, value in params.items():
            setattr(real.p, name, value)

    def __getattr__(self, name):
        return getattr(self.real, name)

    def __setattr__(self, name, value):
        if name in {"real", "given"}:
            object.__setattr__(self, name, value)
        else:
            setattr(self.real, name, value)

    def adddata(self, data, name=None):
        if name is not None:
            data._name = name
        self.given.append(data)
        if len(self.given) > len(self.real.datas):
            data._filters, data._ffilters = [], []
            return data
        mine = self.real.datas[len(self.given) - 1]
        for kept, *_ in data._filters:
            if isinstance(kept, bt.Resampler | bt.Replayer) or hasattr(kept, "__code__"):
                raise NotForThis("a feed with filters of another kind")
            options = kept.p._getkwargs() if hasattr(kept, "p") else {}
            mine.addfilter(type(kept), **options)
        return mine

    def resampledata(self, dataname, name=None, **options):
        return self._changed("resampledata", dataname, name, options)

    def replaydata(self, dataname, name=None, **options):
        return self._changed("replaydata", dataname, name, options)

    def _changed(self, way, data, name, options):
        if not self.real.datas:
            if data not in self.given:
                self.given.append(data)
            return data
        for index, each in enumerate(self.given):
            if each is data or self.real.datas[index] is data:
                return getattr(self.real, way)(self.real.datas[index], name=name, **options)
        self.given.append(data)
        return getattr(self.real, way)(self.real.datas[len(self.given) - 1], name=name, **options)

    def rolloverdata(self, *_, **__):
        raise NotForThis("roll-over of futures")

    def chaindata(self, *_, **__):
        raise NotForThis("chained feeds")

    def optstrategy(self, *_, **__):
        raise NotForThis("an optimisation")

    def addstore(self, *_):
        raise NotForThis("a live store")

    def run(self, **params):
        for name in ("cheat_on_open", "stdstats", "tradehistory"):
            if name in params:
                setattr(self.real.p, name, params[name])
        raise _Stop

    def plot(self, *_, **__):
        raise _Stop


def sample_files(folder):
    return sorted(Path(folder, "samples").glob("*/*.py"))


def _offline(*_, **__):
    raise NotForThis("its data is in the network")


@contextlib.contextmanager
def _as_script(file):
    """Make the process look as if the sample had been started in its folder without arguments."""
    before = Path.cwd(), sys.argv, sys.path[:], bt.Cerebro
    online, bt.feeds.YahooFinanceData = bt.feeds.YahooFinanceData, _offline
    os.chdir(file.parent)
    sys.argv, sys.path[:0] = [file.name, *_ARGUMENTS.get(file.stem, ())], [str(file.parent)]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        os.chdir(before[0])
        sys.argv, sys.path[:], bt.Cerebro = before[1], before[2], before[3]
        bt.feeds.YahooFinanceData = online


def _run(module, file, real):
    """Run a sample up to where it would run its Cerebro; return the feeds that it gave."""
    made = []

    def stand_in(**params):
        made.append(_StandIn(real, **params))
        return made[-1]

    entry = next((getattr(module, name) for name in _ENTRIES if hasattr(module, name)), None)
    if entry is None:
        raise NotForThis("nothing to call")
    with _as_script(file):
        bt.Cerebro = stand_in
        try:
            entry()
        except _Stop:
            return made[-1].given
        except SystemExit as error:
            raise NotForThis("wants arguments") from error
    raise NotForThis("runs no Cerebro")


def _bars(data, limit):
    """Read a sample's feed into a Feed and its bars, in ms."""
    unit = _UNITS.get(data._timeframe)
    if unit is None:
        raise NotForThis("ticks, months or years")
    feed = Feed(data._name or "data", f"{data._compression}{unit}")
    length, bars = interval_ms(feed.interval), {}
    data.setenvironment(bt.Cerebro())
    data._start()
    while len(bars) < limit and data.load():
        lines = [getattr(data.lines, name)[0] for name in ("open", "high", "low", "close", "volume")]
        opened = round((data.lines.datetime[0] - 719_163) * 86_400_000)
        # Their days are stamped with the last microsecond; ours with their open time.
        opened = opened // length * length if unit in "dw" else opened
        if all(map(math.isfinite, lines)):
            bars.setdefault(opened, Bar(opened, *lines))
    data.stop()
    if len(bars) < 30:
        raise NotForThis("too few bars")
    return feed, tuple(bars[opened] for opened in sorted(bars))


def sample_case(path, limit=300):
    """Return the case of a sample. Raises NotForThis with the reason, or whatever the sample raises."""
    file = Path(path)
    name = "sample_" + file.stem.replace("-", "_")
    with _as_script(file):
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        given = _run(module, file, bt.Cerebro())
        read = [_bars(data, limit) for data in given]
    names = [feed.name for feed, _ in read]
    feeds = tuple(
        Feed(f"{feed.name}{number}" if names.count(feed.name) > 1 else feed.name, feed.interval)
        for number, (feed, _) in enumerate(read)
    )
    if not feeds:
        raise NotForThis("no feed")

    def configure(cerebro):
        with _as_script(file):
            _run(module, file, cerebro)

    bars = tuple(bars for _, bars in read)
    return Case(f"sample {file.stem}", configure, feeds, bars, (__name__, "sample_case", (str(path), limit)))
