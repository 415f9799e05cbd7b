"""One Cerebro, built by Backtrader itself and then driven from outside, pass by pass.

`Cerebro.run` builds and starts everything and calls `_runnext`, which here hands control back by an
exception: Backtrader finds the owner of a strategy by walking up the stack, so strategies have to be built
inside `run`. What `_runnext` loops over is `Machine.passes`. It equals the loop of
`cerebro.run(runonce=False, preload=True)` bar for bar; what was left out, and why it may be:

    in `_runnext`                                   | here, because
    sorting the feeds, who leads, who is resampled  | done once in `__init__`: it depends on the build alone
    `haslivedata`, `_laststatus`, `do_qcheck`       | no feed here is live: a bar is there or it is not
    the clock of the computer                       | only `do_qcheck` uses it; a step must not depend on it
    `_storenotify`, `_datanotify`                   | there are no stores, and a PushFeed notifies of nothing
    `d0ret is None`: no bar *yet*, `_check()`       | only a live feed answers None
    `_last()` of the feeds and another round        | delivers unfinished bars of resampled feeds at the very
                                                    | end of the data; a bot's data has no end
    `_check_timers` without timers                  | does nothing

What remains stands in `_pass` and `_deliver` in Backtrader's order, to be compared
with the original line by line; `tests/exact` compares what comes out. Where the loop ends there, it waits
here: `passes` returns when no feed has anything to deliver, and the next bar goes on with the same
objects.

A step may take several passes (a filter that splits a bar) or none (a resampler that waits).

Preloading is the one thing that a loop over single bars cannot do as it stands: there the filters of a feed
have seen all bars before the strategy sees one. `PushFeed.next` runs them as far as there are bars.

Numbers of orders and trades are attributes of Backtrader's classes, so of the process. `OwnNumbers`
exchanges them for the bot's own while its objects run, under a lock: two engines in two threads take
turns.

    the strategy raises in       | its numbers, the lock          | the objects
    `passes`, inside of numbers  | put back and freed on the way  | in the middle of a bar, see `built`
"""

from collections.abc import Callable
from itertools import islice
from threading import Lock
from typing import Any, Final

import backtrader as bt
from backtrader.utils import num2date

from strategies.engine.engine_errors import EngineError, NotCarriable
from strategies.engine.machine.feed import new_feed
from strategies.engine.machine.gate import gate
from strategies.engine.machine.kept_lines import Horizon
from strategies.engine.machine.supplements import carry_analyzers, carry_histories
from strategies.values import Feed

Configure = Callable[[bt.Cerebro], object]
MADE_IN: Final = (bt.lineiterator, bt.lineseries, bt.metabase, bt.observers.trades)
NUMBERS_LOCK: Final = Lock()  # order and trade numbers are attributes of Backtrader's classes


class _Started(BaseException):
    """Everything is built and started; no `except Exception` on the way may stop it."""


class _PausedCerebro(bt.Cerebro):  # type: ignore[misc]  # Backtrader has no types
    """A Cerebro that stops where the loop over the bars would begin."""

    closed = False  # then orders are rejected, see `gate`

    def _runnext(self, runstrats: list[Any]) -> None:
        del runstrats
        raise _Started

    def _runnext_old(self, runstrats: list[Any]) -> None:
        del runstrats
        raise NotCarriable(
            "oldsync", "leave it at False, as it has been since Backtrader 1.9.0", ("cerebro", "p")
        )

    def __call__(self, iterstrat: Any) -> Any:
        del iterstrat
        raise NotCarriable("optstrategy", "add the strategy with fixed parameters", ("cerebro",))


class Numbers:
    """A counter whose next number can be read and set, unlike itertools.count."""

    __slots__ = ("upcoming",)

    def __init__(self, upcoming: int = 1) -> None:
        self.upcoming = upcoming

    def __iter__(self) -> "Numbers":
        return self

    def __next__(self) -> int:
        number = self.upcoming
        self.upcoming = number + 1
        return number


class Switch:
    """Stands at a class of Backtrader's for the counter of its objects and hands out what `now` counts.

    Only `now` is exchanged at every step: to set an attribute of a class makes Python forget what it
    remembers of its methods, and from a number of times on it remembers no more.
    """

    __slots__ = ("now",)

    def __init__(self, process: Any) -> None:
        self.now = process

    def __iter__(self) -> "Switch":
        return self

    def __next__(self) -> int:
        return int(next(self.now))


class OwnNumbers:
    """While entered, orders and trades get the bot's own numbers, not those of the process."""

    __slots__ = ("orders", "process", "trades")

    def __init__(self) -> None:
        self.orders = Numbers()
        self.trades = Numbers()
        self.process: tuple[tuple[Switch, Any], ...] = ()

    def __enter__(self) -> None:
        NUMBERS_LOCK.acquire()
        orders, trades = _switch_of(bt.order.OrderBase), _switch_of(bt.trade.Trade)
        self.process = (orders, orders.now), (trades, trades.now)
        orders.now, trades.now = self.orders, self.trades

    def __exit__(self, *_: object) -> None:
        for switch, process in self.process:
            switch.now = process
        NUMBERS_LOCK.release()


def _switch_of(cls: Any) -> Switch:
    """Return the switch of a class; if somebody has put another counter there since, a new one."""
    found = cls.refbasis
    if type(found) is not Switch:
        found = cls.refbasis = Switch(found)
    return found


class Machine:
    """A built Cerebro and the loop body of `_runnext`."""

    def __init__(self, configure: Configure, feeds: tuple[Feed, ...]) -> None:
        self.numbers = OwnNumbers()  # of orders and trades
        self.horizon = Horizon()  # how far back the lines go
        self.cerebro = cerebro = _PausedCerebro()
        cerebro.closed = False  # an attribute from the start is none that differs from it
        with self.numbers:
            self.pushed = [new_feed(feed) for feed in feeds]  # ours; `configure` may add resampled ones
        for feed, data in zip(feeds, self.pushed, strict=True):
            cerebro.adddata(data, name=feed.name)
        configure(cerebro)
        with self.numbers:
            _run_to_the_loop(cerebro)
        self.broker = cerebro._broker
        self.strategies: list[Any] = cerebro.runningstrats
        for data in self.pushed:
            data.plain = not (data._filters or data._tzinput or data.p.fromdate or data.p.todate)
            data.reads_ahead = bool(data._filters) and not cerebro._doreplay
        gate(self.broker)
        carry_histories(self.broker)
        for strategy in self.strategies:
            carry_analyzers([*strategy.analyzers, *strategy._slave_analyzers])
        # What `_runnext` computes before its loop: the order of the feeds, their clocks, who does not lead.
        self.datas: list[Any] = sorted(cerebro.datas, key=lambda data: (data._timeframe, data._compression))
        self.clocks = [data.lines.datetime for data in self.datas]
        self.followers = _followers(self.datas)
        # Where notifications of orders pass; a Recorder puts itself there.
        self.notify: Callable[[Any, Any], None] = self.tell

    def passes(self) -> None:
        """Run the loop body until no feed has anything to deliver."""
        while not self.cerebro._event_stop and self._pass():
            pass

    def _pass(self) -> bool:  # noqa: C901 -- the shape of Backtrader's own loop, to be compared with it
        self.horizon.loading = True
        stamp = self._deliver()
        self.horizon.loading = False
        if stamp is None:
            return False
        cerebro, strategies = self.cerebro, self.strategies
        if cerebro._timerscheat:
            cerebro._check_timers(strategies, stamp, cheat=True)
        if cerebro.p.cheat_on_open:
            for strategy in strategies:
                strategy._next_open()
                if cerebro._event_stop:
                    return False
        self._settle_orders()
        if cerebro._event_stop:
            return False
        if cerebro._timers:
            cerebro._check_timers(strategies, stamp, cheat=False)
        for strategy in strategies:
            strategy._next()
            if cerebro._event_stop:
                return False
            cerebro._next_writers(strategies)
        return True

    def _deliver(self) -> float | None:  # noqa: C901 -- as above
        """Move the feeds to the next moment; return its stamp, None if there is nothing to deliver."""
        datas = self.datas
        stamps = [
            clock[0] if data.next(ticks=False) else None
            for data, clock in zip(datas, self.clocks, strict=True)
        ]
        leading = [
            stamp
            for stamp, follows in zip(stamps, self.followers, strict=True)
            if stamp is not None and not follows
        ]
        if not leading:
            # In a backtest a resampled bar waits here for the next bar of a feed that leads.
            for data, stamp in zip(datas, stamps, strict=True):
                if stamp is not None:
                    data.rewind()
            return None
        moment = min(leading)
        master = datas[stamps.index(moment)]
        cerebro = self.cerebro
        cerebro._dtmaster = master.num2date(moment)
        cerebro._udtmaster = num2date(moment)
        for at, data in enumerate(datas):
            if stamps[at] is None:
                data._check(forcedata=master)
                if data.next(datamaster=master, ticks=False):
                    stamps[at] = data.datetime[0]
        for data, stamp in zip(datas, stamps, strict=True):
            if stamp is None:
                continue
            if stamp > moment:
                data.rewind()
            elif not data.replaying:
                data._tick_fill(force=True)
        return float(moment)

    def _settle_orders(self) -> None:
        """Backtrader's `_brokernotify`."""
        broker = self.broker
        broker.next()
        while (order := broker.get_notification()) is not None:
            owner = order.owner
            self.notify(self.strategies[0] if owner is None else owner, order)

    def tell(self, owner: Any, order: Any) -> None:
        owner._addnotification(order, quicknotify=self.cerebro.p.quicknotify)


def _run_to_the_loop(cerebro: Any) -> None:
    """Let Backtrader build and start everything."""
    known = [(vars(module), len(vars(module))) for module in MADE_IN]
    try:
        cerebro.run(runonce=False, preload=False, exactbars=0, live=False)
    except _Started:
        pass
    else:
        raise EngineError("Cerebro ran to its end without starting the strategies")
    for names, size in known:
        # Couplers and observers of all feeds have made classes that the module would keep for ever.
        for name in list(islice(reversed(names), len(names) - size)):
            del names[name]
    if not cerebro.runningstrats:
        raise EngineError("no strategy runs: all of them raised StrategySkipError")


def _followers(datas: list[Any]) -> list[bool]:
    """Resampled feeds do not lead the clock, unless there is nothing else (as in `_runnext`)."""
    follows = [bool(data.resampling and not data.replaying) for data in datas]
    return [False] * len(datas) if all(follows) else follows
