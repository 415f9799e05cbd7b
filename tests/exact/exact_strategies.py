"""Strategies whose attributes are of every kind that a state can carry, and some that it must refuse."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import itertools
import math
import random
import sys
import threading
import zoneinfo

import backtrader as bt
import numpy as np
from exact_bars import random_bars
from exact_record import exact, note
from exact_run import Case

from strategies.engine import Feed


class Mood(enum.Enum):
    CALM = "calm"
    WILD = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Memory:
    bars: int = 0
    seen: list = dataclasses.field(default_factory=list)
    mood: Mood = Mood.CALM


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: tuple


class Plain:
    """A class of the user with no more than attributes."""

    def __init__(self, owner):
        self.owner = owner
        self.count = 0


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self):
        self.left, self.right = 0, None


class Numbers(bt.Strategy):
    def __init__(self):
        self.whole, self.huge, self.truth, self.nothing = 0, 1, False, None
        self.nan, self.infinite, self.minus_zero = math.nan, -math.inf, 0.0
        self.complex = 1j
        self.decimal = decimal.Decimal("0.10")

    def next(self):
        note(
            self.whole,
            self.huge,
            self.truth,
            self.nan,
            self.infinite,
            self.minus_zero,
            self.decimal,
            self.nothing,
        )
        note(self.complex, type(self.whole).__name__, type(self.truth).__name__)
        self.whole += 1
        self.huge = -self.huge * 3_000_000_001
        # Equal to what was there, but not the same: a change all the same.
        self.truth = 0 if len(self) % 3 == 1 else len(self) % 3 == 2
        self.nothing = None if len(self) % 2 else 0
        self.nan = math.nan if len(self) % 2 else self.data[0]
        self.infinite = -self.infinite
        self.minus_zero = -0.0 if len(self) % 3 else 0.0
        self.complex *= 1 + 0.5j
        self.decimal = self.decimal * decimal.Decimal("-1.10") + decimal.Decimal(
            "NaN" if len(self) > 40 else 1
        )


class Times(bt.Strategy):
    def __init__(self):
        self.date = dt.date(2021, 1, 1)
        self.naive = dt.datetime(2021, 1, 1, 12, 30, 1, 7)  # noqa: DTZ001  (naive is the case tested)
        self.utc = dt.datetime(2021, 1, 1, tzinfo=dt.UTC)
        self.zoned = dt.datetime(2021, 3, 27, 23, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
        self.fixed = dt.datetime(2021, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))
        self.folded = dt.datetime(2021, 10, 31, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
        self.clock = dt.time(12, 1, 2, 3, tzinfo=dt.UTC)
        self.delta = dt.timedelta(microseconds=1)

    def next(self):
        shown = (self.date, self.naive, self.utc, self.zoned, self.fixed, self.folded, self.clock, self.delta)
        note(*map(repr, shown), self.folded.fold, self.zoned.utcoffset().total_seconds())
        self.date += dt.timedelta(days=1)
        for name in ("naive", "utc", "zoned", "fixed"):
            setattr(self, name, getattr(self, name) + self.delta)
        self.folded = self.folded.replace(fold=1 - self.folded.fold)
        self.delta = -self.delta + dt.timedelta(minutes=len(self))
        self.clock = self.clock.replace(microsecond=len(self))


class Texts(bt.Strategy):
    def __init__(self):
        self.text, self.raw, self.mutable, self.mood = "", b"\x00\xff", bytearray(b"a"), Mood.CALM
        self.level, self.flags = Level.LOW, Flags.A

    def next(self):
        note(self.text, self.raw, bytes(self.mutable), self.mood.name, self.level.name, str(self.flags))
        note(type(self.level).__name__, self.mood is Mood.CALM)
        self.text += "ä€🚀\n\x00\ud800"[len(self) % 6]
        self.raw += bytes([len(self) % 256])
        self.mutable.append(len(self) % 200)
        self.mood = Mood.WILD if len(self) % 2 else Mood.CALM
        self.level = Level.HIGH if len(self) % 2 else Level.LOW
        self.flags ^= Flags.B


class Containers(bt.Strategy):
    def __init__(self):
        self.tuple, self.list, self.dict = (), [], {}
        self.set, self.frozen, self.deque = set(), frozenset(), collections.deque(maxlen=5)
        self.open_deque = collections.deque()
        self.default = collections.defaultdict(list)
        self.ordered, self.counter = collections.OrderedDict(), collections.Counter()
        self.memory, self.point, self.plain, self.slotted = Memory(), Point(1.0, ()), Plain(self), Slotted()

    def next(self):
        note(
            self.tuple,
            self.list,
            sorted(self.dict.items()),
            list(self.dict),
            sorted(self.set),
            sorted(self.frozen),
        )
        note(
            list(self.deque), self.deque.maxlen, list(self.open_deque), dict(self.default), list(self.ordered)
        )
        note(sorted(self.counter.items()), repr(self.memory), repr(self.point), self.plain.count)
        note(self.plain.owner is self, self.slotted.left, self.slotted.right is self.slotted)
        number = len(self)
        self.tuple = (number, self.tuple[:3])
        self.list = [*self.list[-4:], {"n": number, "inner": [number / 7]}]
        self.dict[number % 11, "key"] = self.data.close[0]
        self.dict.pop((number % 7, "key"), None)
        self.set ^= {number % 5, f"text {number % 3}".__len__() + number % 13}
        self.frozen = frozenset([*list(self.frozen)[-3:], number])
        self.deque.append(number)
        self.open_deque.appendleft(number)
        if len(self.open_deque) > 3:
            self.open_deque.pop()
        self.default[number % 4].append(number)
        del self.default[number % 4][:-2]
        self.ordered[number % 6] = number
        self.ordered.move_to_end(min(self.ordered))
        self.counter[number % 3] += 1
        self.memory.bars += 1
        self.memory.seen = [*self.memory.seen[-2:], (number, Mood.WILD)]
        self.memory.mood = Mood.WILD if number % 2 else Mood.CALM
        self.point = Point(self.data.close[0], (number, self.point.x))
        self.plain.count += 1
        self.plain.extra = {"added": number}
        self.slotted.left += 1
        self.slotted.right = self.slotted if number % 2 else None


class IntSets(bt.Strategy):
    """Runs through a set of numbers in its own order, which CPython makes from the history of the set."""

    def __init__(self):
        self.set = set()

    def next(self):
        note(list(self.set))
        self.set ^= {len(self) % 5, len(self) % 3 + 8 * (len(self) % 7)}


class TextSets(bt.Strategy):
    """Order within a set of texts depends on the process's hash seed; sorted it does not."""

    def __init__(self):
        self.names = {"alpha", "beta", "gamma", "delta"}
        self.table = {"b": 1, "a": 2}

    def next(self):
        note(sorted(self.names), list(self.table))
        self.names ^= {f"name {len(self) % 9}"}
        self.table[f"key {len(self) % 5}"] = self.table.pop("b", None) or len(self)


class Arrays(bt.Strategy):
    def __init__(self):
        self.scalar, self.single, self.truth = np.float64(0.5), np.float32(1), np.bool_(True)  # noqa: FBT003
        self.window = np.zeros(4)
        self.grid = np.arange(6, dtype=np.int32).reshape(2, 3)
        self.fortran = np.asfortranarray(np.ones((2, 3)))
        self.moment = np.datetime64("2021-01-01T00:00", "m")

    def next(self):
        note(type(self.scalar).__name__, float(self.scalar), type(self.single).__name__, float(self.single))
        note(
            self.window.tobytes(),
            self.grid.tobytes(),
            str(self.grid.dtype),
            self.grid.shape,
            str(self.moment),
        )
        note(
            self.fortran.flags.f_contiguous,
            self.fortran.tolist(),
            bool(self.truth),
            type(self.truth).__name__,
        )
        self.scalar = np.float64(self.data.close[0]) * self.scalar
        self.single = np.float32(self.single * np.float32(1.01))
        self.window = np.roll(self.window, 1)
        self.window[0] = self.data.close[0]
        self.grid += len(self)
        self.fortran[1, 2] += 0.1
        self.moment += np.timedelta64(len(self), "m")
        self.truth = np.bool_(len(self) % 2)


class References(bt.Strategy):
    """Holds what Backtrader made: orders, trades, positions, feeds, indicators, and keys made of them."""

    def __init__(self):
        self.sma = bt.indicators.SMA(period=5)
        self.cross = bt.indicators.CrossOver(self.data.close, self.sma)
        self.by_feed = {data: [] for data in self.datas}
        self.by_name = {data._name: self.sma for data in self.datas}
        self.order = self.trade = self.position_seen = self.line = self.bound = self.chosen = None
        self.orders_by_ref, self.order_set = {}, []
        self.table = {"sma": self.sma, "close": self.data.close, "me": self}
        self.params_seen = self.p

    def notify_order(self, order):
        self.orders_by_ref[order.ref] = order
        if len(self.orders_by_ref) > 4:
            del self.orders_by_ref[min(self.orders_by_ref)]
        self.by_feed[order.data].append(order.status)
        del self.by_feed[order.data][:-5]
        if self.order is not None and order is self.order:
            note("mine", order.ref, order == self.order, order.getstatusname())
            if not order.alive():
                self.order = None

    def notify_trade(self, trade):
        self.trade = trade

    def next(self):
        note({ref: order.status for ref, order in self.orders_by_ref.items()}, list(self.by_feed.values()))
        note([each is self.sma for each in self.by_name.values()], self.table["me"] is self)
        if self.trade is not None:
            note(self.trade.ref, self.trade.size, self.trade.pnlcomm, self.trade.data is self.data)
        if self.position_seen is not None:
            note(self.position_seen.size, self.position_seen is self.getposition(self.data))
        if self.line is not None:
            note(self.line[0], self.chosen is self.data, self.bound(2.0))
        self.position_seen = self.getposition(self.data)
        self.line = self.data.high if len(self) % 2 else self.sma.lines.sma
        self.chosen = self.datas[len(self) % len(self.datas)]
        self.bound = self.scaled
        if self.order is None and self.cross[0]:
            give = self.buy if self.cross[0] > 0 else self.sell
            self.order = give(data=self.chosen, exectype=bt.Order.Limit, price=self.chosen.close[0])
            self.order_set = [self.order, self.order]
        if self.order_set:
            note(self.order_set[0] is self.order_set[1], self.order_set[0].executed.price)

    def scaled(self, factor):
        return self.sma[0] * factor


class Knots(bt.Strategy):
    """Shared and circular references."""

    def __init__(self):
        self.first = []
        self.second = self.first
        self.first.append(self.first)
        self.ring = {"next": None}
        self.ring["next"] = {"next": self.ring}
        self.pair = Plain(None)
        self.pair.owner = self.pair
        self.shared_key = (1, 2)
        self.deep = None

    def next(self):
        note(self.first is self.second, self.first[0] is self.first, self.ring["next"]["next"] is self.ring)
        note(self.pair.owner is self.pair, len(self.first), len(self.second), _depth(self.deep))
        self.first.append(len(self))
        del self.first[6:]
        if len(self) % 10 == 5:
            self.second = list(self.first)
        if len(self) % 10 == 9:
            self.second = self.first
        self.ring["next"] = {"next": self.ring, "n": len(self)}
        self.deep = [self.deep] if len(self) % 60 else None


def _depth(value):
    count = 0
    while value is not None:
        value, count = value[0], count + 1
    return count


class Chance(bt.Strategy):
    def __init__(self):
        self.rng = random.Random(7)
        self.numpy_rng = np.random.default_rng(7)
        self.counter = itertools.count(5, 2)

    def next(self):
        note(self.rng.gauss(0, 1), self.rng.getrandbits(100), self.rng.choice("abc"), next(self.counter))
        if self.rng.random() < 0.3:
            self.order_target_percent(target=self.rng.uniform(-0.5, 0.9))


class NumpyChance(bt.Strategy):
    def __init__(self):
        self.rng = np.random.default_rng(7)

    def next(self):
        note(float(self.rng.normal()), int(self.rng.integers(1 << 60)))


class Coming(bt.Strategy):
    """Attributes that come and go, and change their kind."""

    def next(self):
        number = len(self)
        note(sorted(key for key in vars(self) if key.startswith("my_")), getattr(self, "my_kind", "none"))
        if number % 5 == 0:
            setattr(self, f"my_{number % 15}", number)
        if number % 7 == 0:
            for key in [key for key in vars(self) if key.startswith("my_")][:1]:
                delattr(self, key)
        self.my_kind = (1, 1.0, True, "1", None, [1], (1,), {1: 1})[number % 8]


class Phases(bt.Strategy):
    """prenext, nextstart, next and all notifications, with timers."""

    def __init__(self):
        self.slow = bt.indicators.SMA(period=30)
        self.calls = collections.Counter()
        self.add_timer(when=dt.time(9, 0), weekdays=[1, 3], weekcarry=True)
        self.add_timer(when=bt.timer.SESSION_END, repeat=dt.timedelta(hours=3), cheat=True)
        self.add_timer(when=dt.time(4, 30), offset=dt.timedelta(minutes=30), monthdays=[2, 4, 5])

    def start(self):
        self.calls["start"] += 1

    def prenext(self):
        self.calls["prenext"] += 1
        note("prenext", sorted(self.calls.items()))

    def nextstart(self):
        self.calls["nextstart"] += 1
        note("nextstart", sorted(self.calls.items()))
        super().nextstart()

    def next(self):
        self.calls["next"] += 1
        note("next", sorted(self.calls.items()))
        if len(self) % 9 == 0:
            self.buy()
        if len(self) % 9 == 5:
            self.close()

    def notify_timer(self, timer, when, *args, **kwargs):
        self.calls["timer"] += 1
        note("timer", timer.p.tid, str(when), len(self), exact(args), exact(kwargs))

    def notify_order(self, order):  # noqa: ARG002  (Backtrader's signature)
        self.calls["order"] += 1

    def notify_trade(self, trade):  # noqa: ARG002  (Backtrader's signature)
        self.calls["trade"] += 1

    def notify_cashvalue(self, cash, value):  # noqa: ARG002  (Backtrader's signature)
        self.calls["cashvalue"] += 1

    def notify_fund(self, cash, value, fundvalue, shares):  # noqa: ARG002  (Backtrader's signature)
        self.calls["fund"] += 1


class Looking(bt.Strategy):
    """Reads history in the ways that strategies do, at depths its indicators ask for."""

    def __init__(self):
        self.sma = bt.indicators.SMA(period=12)

    def next(self):
        note(self.data.close[-11], self.data.close[-1], list(self.data.close.get(size=10)), self.sma[-1])
        note(
            str(self.data.datetime.datetime(0)),
            str(self.data.datetime.date(-1)),
            str(self.data.datetime.time()),
        )
        note(self.data.num2date(self.data.datetime[0]).isoformat(), len(self.data), len(self))


class NoIndicators(bt.Strategy):
    def next(self):
        if self.data.close[0] > self.data.open[0] and not self.position:
            self.buy()
        elif self.data.close[0] < self.data.close[-1] and self.position:
            self.sell()


class OpenFile(bt.Strategy):
    def __init__(self):
        self.log_file = sys.__stderr__  # an open file that nobody has to close


class Threaded(bt.Strategy):
    def __init__(self):
        self.guard = threading.Lock()


class Generating(bt.Strategy):
    def __init__(self):
        self.numbers = (number for number in range(100))


class Closing(bt.Strategy):
    def __init__(self):
        memory = [0]

        def remember():
            memory[0] += 1
            return memory[0]

        self.remember = remember


class LambdaInside(bt.Strategy):
    def __init__(self):
        total = {"n": 0}
        self.rules = {"first": [lambda: total]}


class Iterating(bt.Strategy):
    def __init__(self):
        self.words = zip("abc", "def", strict=True)


class Module(bt.Strategy):
    def __init__(self):
        self.thread = threading.Thread(target=print)


class LateFile(bt.Strategy):
    def next(self):
        if len(self) == 5:
            self.late = {"log": [sys.__stderr__]}


_SEEN = []


class GlobalList(bt.Strategy):
    def next(self):
        _SEEN.append(len(self))


_TOTAL = 0


class GlobalNumber(bt.Strategy):
    def next(self):
        global _TOTAL  # noqa: PLW0603  (what must be refused)
        _TOTAL += 1


class OnClass(bt.Strategy):
    count = 0

    def next(self):
        type(self).count += 1


REFUSED = {
    OpenFile: "log_file",
    Threaded: "guard",
    Generating: "numbers",
    Closing: "remember",
    LambdaInside: "rules",
    Iterating: "words",
    Module: "thread",
    GlobalNumber: "_TOTAL",
    GlobalList: "_SEEN",
}
CARRIED = (
    *(Numbers, Times, Texts, Containers, TextSets, Arrays, References, Knots, Chance, Coming),
    *(Phases, Looking, NoIndicators),
)


def strategy_case(name, count=130, feeds=1, seed=5, interval="1h"):
    made = globals()[name]
    bars = tuple(random_bars(seed + number, count, interval, gaps=0.02) for number in range(feeds))
    named = tuple(Feed(letter, interval) for letter in "ABC"[:feeds])
    origin = (__name__, "strategy_case", (name, count, feeds, seed, interval))
    return Case(name, lambda cerebro: cerebro.addstrategy(made), named, bars, origin)


def several_case(count=120):
    """Return a case with three strategies in one Cerebro, two of one class."""

    def configure(cerebro):
        cerebro.addstrategy(References)
        cerebro.addstrategy(Chance)
        cerebro.addstrategy(References)

    bars = (random_bars(3, count), random_bars(4, count))
    return Case(
        "several", configure, (Feed("A", "1h"), Feed("B", "1h")), bars, (__name__, "several_case", (count,))
    )


SIGNALS = (
    *(bt.SIGNAL_LONGSHORT, bt.SIGNAL_LONG, bt.SIGNAL_SHORT, bt.SIGNAL_LONGEXIT, bt.SIGNAL_SHORTEXIT),
    *(bt.SIGNAL_LONG_INV, bt.SIGNAL_SHORT_ANY),
)


class Above(bt.Indicator):
    lines = ("signal",)
    params = (("period", 10),)

    def __init__(self):
        self.lines.signal = self.data - bt.indicators.SMA(period=self.p.period)


def signals_case(kind, count=120, accumulate=False, concurrent=False):
    def configure(cerebro):
        cerebro.add_signal(SIGNALS[kind], Above)
        if SIGNALS[kind] != bt.SIGNAL_LONGSHORT:
            cerebro.add_signal(bt.SIGNAL_LONGSHORT, Above, period=25)
        cerebro.signal_accumulate(accumulate)
        cerebro.signal_concurrent(concurrent)

    origin = (__name__, "signals_case", (kind, count, accumulate, concurrent))
    return Case(f"signal {kind}", configure, (Feed("A", "1h"),), (random_bars(6, count),), origin)
