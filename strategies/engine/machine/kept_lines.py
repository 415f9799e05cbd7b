"""Line buffers that keep a tail and never answer a read behind it.

Backtrader keeps every value of every line for ever (`exactbars=0`) or, with `exactbars=1`, as many as
the minimum period says and answers a deeper read with a wrong element. Here a line keeps whatever
was read of it, learnt while the whole history is still there:

    bars      1 .. settled          all values are kept; indicators take their seeds, reads are not noted
    bars      settled+1 .. whole    all values are kept; the deepest read is noted in `_floor`
    after                           `1 - _floor` values are kept; a deeper read raises HistoryTooShort

So between any two calls: `_tail[_idx]` is the value of bar number `lencount`; what lies beyond `_idx` in
the array are values of bars that were moved back over (`rewind`) or ahead (`extension`); and every value
from `_floor` to the present is there. There may be more, on an engine that was not trimmed yet, but no
read gets at it: the check is against `_floor`, which is part of the state, and not against the length of
the array. What raises and what does not depends on the state alone.

Why the seeds do not count: an indicator reads its whole period once, when it starts (`settled` is the
longest of all periods), and from then on goes on from its last value. Noting these reads would keep a
period of values for ever that nobody reads again. A strategy that does read that deep later raises, is
replayed with more depth (`Engine.replay`), and the depth travels in the state. A wrong guess costs time,
never a value.

As long as all values are kept the array is the one that Backtrader would have, and Python's negative
indices wrap round as they do there.

Lines of data feeds are different in one thing: in the reference run the array holds the future
(`preload=True`), so a read that wraps round or looks ahead raises LooksAhead, never a value. Feeds and
filters themselves (`Horizon.loading`) run before the strategy there as here, and are not held to that.

Every override exists because the original touches the array past these checks, or in a way that a tail
answers differently (`home`, `getzero`: from the first value on).
"""

from array import array
from collections.abc import Callable
from math import modf, trunc
from typing import Any, Final, TypeAlias

import backtrader as bt
from backtrader.utils import num2date, time2num

from strategies.engine.bytes.vocabulary import remembered
from strategies.engine.engine_errors import EngineError, HistoryTooShort, LooksAhead

NAN: Final = float("nan")
LEARNING_BARS: Final = 16  # bars after the longest minimum period in which reads are noted
Values: TypeAlias = "array[float]"  # HistoryLine has a property of the name `array`
HOT: Final = ("_tail", "_idx", "lencount", "extension", "_floor", "_horizon", "_number")
IGNORED: Final = frozenset(
    {"__module__", "__qualname__", "__doc__", "__slots__", "__annotations__", "__dict__"}
)
FIRST_READ: Final = "read before the first bar"
FUTURE_READ: Final = "read of a bar that has not closed"


class Horizon:
    """What all lines of one engine share. Counts are in bars of the line itself."""

    __slots__ = ("loading", "name_of", "settled", "whole")

    def __init__(self) -> None:
        self.settle(1)
        self.loading = False  # feeds and filters are at work, not the strategy
        self.name_of: Callable[[int], str] = str

    def settle(self, longest: int) -> None:
        """Set the longest minimum period of all lines."""
        self.settled = longest
        self.whole = longest + LEARNING_BARS


class HistoryLine:
    """Overrides of everything in LineBuffer that touches the array."""

    _tail: "Values"
    _idx: int
    lencount: int
    extension: int
    bindings: list[Any]
    _floor: int  # deepest allowed `ago`, zero or negative
    _horizon: Horizon
    _number: int
    _tz: Any

    def _reach(self, ago: int) -> None:
        """Note the read if the whole history is there, raise if it is not."""
        horizon = self._horizon
        if self.lencount > horizon.whole:
            raise HistoryTooShort(self._number, horizon.name_of(self._number), 1 - ago)
        if self.lencount > horizon.settled:
            self._floor = ago

    @property
    def array(self) -> Any:
        raise EngineError(
            f"{self._horizon.name_of(self._number)}.array is the whole history, which a bot"
            " does not have; read what is needed with get(ago, size) or line[-n]"
        )

    def __getitem__(self, ago: int) -> float:
        if ago < self._floor:
            self._reach(ago)
        return self._tail[self._idx + ago]

    def __setitem__(self, ago: int, value: float) -> None:
        if ago < self._floor:
            self._reach(ago)
        self._tail[self._idx + ago] = value
        for binding in self.bindings:
            binding[ago] = value

    def set(self, value: float, ago: int = 0) -> None:
        self[ago] = value

    def get(self, ago: int = 0, size: int = 1) -> "Values":
        first = ago - size + 1
        if first < self._floor:
            self._reach(first)
        at = self._idx + ago + 1
        return self._tail[at - size : at]

    def buflen(self) -> int:
        return self.lencount + len(self._tail) - 1 - self._idx - self.extension

    def forward(self, value: float = NAN, size: int = 1) -> None:
        self._idx += size
        self.lencount += size
        if size == 1:
            self._tail.append(value)
        else:
            self._tail.extend([value] * size)

    def backwards(self, size: int = 1, force: bool = False) -> None:
        del force
        self._idx -= size
        self.lencount -= size
        del self._tail[-size:]

    def rewind(self, size: int = 1) -> None:
        self._idx -= size
        self.lencount -= size

    def advance(self, size: int = 1) -> None:
        self._idx += size
        self.lencount += size

    def extend(self, value: float = NAN, size: int = 0) -> None:
        self.extension += size
        for _ in range(size):
            self._tail.append(value)

    def home(self) -> None:
        self._whole_or_raise()
        self._idx = -1
        self.lencount = 0

    def reset(self) -> None:
        self._tail = array("d")
        self._idx, self.lencount, self.extension = -1, 0, 0

    def _whole_or_raise(self) -> None:
        if self.lencount > self._horizon.whole:
            name = self._horizon.name_of(self._number)
            raise HistoryTooShort(self._number, name, self.lencount)

    def getzeroval(self, idx: int = 0) -> float:
        self._whole_or_raise()
        return self._tail[idx]

    def getzero(self, idx: int = 0, size: int = 1) -> "Values":
        self._whole_or_raise()
        return self._tail[idx : idx + size]

    def plotrange(self, start: int, end: int) -> "Values":
        self._whole_or_raise()
        return self._tail[start:end]

    def datetime(self, ago: int = 0, tz: Any = None, naive: bool = True) -> Any:
        return num2date(self[ago], tz=tz or self._tz, naive=naive)

    def date(self, ago: int = 0, tz: Any = None, naive: bool = True) -> Any:
        return num2date(self[ago], tz=tz or self._tz, naive=naive).date()

    def time(self, ago: int = 0, tz: Any = None, naive: bool = True) -> Any:
        return num2date(self[ago], tz=tz or self._tz, naive=naive).time()

    def dt(self, ago: int = 0) -> int:
        return trunc(self[ago])

    def tm_raw(self, ago: int = 0) -> float:
        return modf(self[ago])[0]

    def tm(self, ago: int = 0) -> Any:
        return time2num(num2date(self[ago]).time())

    def tm_lt(self, other: float, ago: int = 0) -> bool:
        stamp = self[ago]
        return stamp < modf(stamp)[1] + other

    def tm_le(self, other: float, ago: int = 0) -> bool:
        stamp = self[ago]
        return stamp <= modf(stamp)[1] + other

    def tm_eq(self, other: float, ago: int = 0) -> bool:
        stamp = self[ago]
        return stamp == modf(stamp)[1] + other

    def tm_gt(self, other: float, ago: int = 0) -> bool:
        stamp = self[ago]
        return stamp > modf(stamp)[1] + other

    def tm_ge(self, other: float, ago: int = 0) -> bool:
        stamp = self[ago]
        return stamp >= modf(stamp)[1] + other

    def tm2dtime(self, tm: float, ago: int = 0) -> float:
        return int(self[ago]) + tm

    def tm2datetime(self, tm: float, ago: int = 0) -> Any:
        return num2date(int(self[ago]) + tm)


class FeedLine(HistoryLine):
    """A line of a data feed: what lies outside of the bars so far would be the future."""

    def __getitem__(self, ago: int) -> float:
        at = self._idx + ago
        if at < 0 or ago > 0 or ago < self._floor:
            self._reach_of_feed(ago)
        return self._tail[at]

    def __setitem__(self, ago: int, value: float) -> None:
        at = self._idx + ago
        if at < 0 or ago > 0 or ago < self._floor:
            self._reach_of_feed(ago)
        self._tail[at] = value
        for binding in self.bindings:
            binding[ago] = value

    def get(self, ago: int = 0, size: int = 1) -> "Values":
        first = ago - size + 1
        start = self._idx + first
        if start < 0 or ago > 0 or first < self._floor:
            if self._horizon.loading or start >= 0:
                self._reach_of_feed(first if ago <= 0 else ago)
            elif self.lencount > self._horizon.whole:
                self._reach(first)
            elif self._idx + ago + 1 > 0 >= ago:
                # A slice from the end of all bars to this one: empty in every run longer than it.
                return array("d")
            else:
                raise LooksAhead(self._complaint(first))
        return self._tail[start : self._idx + ago + 1]

    def _reach_of_feed(self, ago: int) -> None:
        horizon = self._horizon
        if horizon.loading and self.lencount <= horizon.whole:
            if horizon.settled < self.lencount and ago < self._floor:
                self._floor = ago
            return
        if not horizon.loading and (ago > 0 or self.lencount - 1 + ago < 0):
            raise LooksAhead(self._complaint(ago))
        if ago < self._floor or self._idx + ago < 0:
            self._reach(ago)

    def buflen(self) -> int:
        if not self._horizon.loading:
            raise LooksAhead(
                f"{self._horizon.name_of(self._number)}.buflen() counts the bars of the future in a"
                " backtest and has no answer in a bot; use len(data)"
            )
        return HistoryLine.buflen(self)

    def _complaint(self, ago: int) -> str:
        name = self._horizon.name_of(self._number)
        what = FUTURE_READ if ago > 0 else FIRST_READ
        return (
            f"{name}[{ago}] on bar {self.lencount} is a {what}: a backtest answers it with a price of the"
            " future, a bot cannot. Let next() return while there are too few bars: if len(self) < n: return"
        )


@remembered
def _kept(original: type, guard: type) -> type:
    """One derived class per original class: made anew for every engine they would pile up.

    `type.__new__` and not a class statement, because Backtrader's metaclasses add two attributes to
    the module of a class for every subclass; and the methods copied, not inherited, because the
    class of an object can only be exchanged for one of the same layout.
    """
    attributes: dict[str, Any] = {"__module__": original.__module__, "__qualname__": original.__qualname__}
    for base in reversed(guard.__mro__[:-1]):
        attributes.update({name: value for name, value in vars(base).items() if name not in IGNORED})
    return type.__new__(type(original), original.__name__, (original,), attributes)


def keep_tail(line: Any, number: int, horizon: Horizon, *, of_feed: bool) -> None:
    """Turn a built LineBuffer into one that keeps a tail.

    Its moving parts become the first entries of its dict, so that the rest, which has to be
    compared after every bar, is one slice.
    """
    names = vars(line)
    rest = names.copy()
    names.clear()
    names["_tail"] = rest.pop("array")
    names["_idx"] = rest.pop("_idx")
    names["lencount"] = rest.pop("lencount")
    names["extension"] = rest.pop("extension")
    names["_floor"] = 0
    names["_horizon"] = horizon
    names["_number"] = number
    names.update(rest)
    line.__class__ = _kept(type(line), FeedLine if of_feed else HistoryLine)


def is_line(thing: object) -> bool:
    return isinstance(thing, bt.linebuffer.LineBuffer)
