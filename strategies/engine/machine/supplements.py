"""Parts of Backtrader that need the whole history or a position in an iterator, made to be carried.

They compute what the originals compute, from what is known bar by bar.
"""

from collections import OrderedDict
from typing import Any, Final

import backtrader as bt

from strategies.engine.bytes.vocabulary import remembered
from strategies.engine.engine_errors import NotCarriable

READABLE: Final[tuple[Any, ...]] = (type(iter(())), type(iter([])))


class Remaining:
    """An iterator over what was given, whose position is an attribute."""

    def __init__(self, items: tuple[Any, ...]) -> None:
        self.items = items
        self.at = 0

    def __iter__(self) -> "Remaining":
        return self

    def __next__(self) -> Any:
        if self.at >= len(self.items):
            raise StopIteration
        self.at += 1
        return self.items[self.at - 1]


def carry_histories(broker: Any) -> None:
    """Give the histories of orders and of the fund, if there are any, iterators with a position."""
    histories = [*getattr(broker, "_userhist", ())]
    if getattr(broker, "_fundhist", None):
        histories.append(broker._fundhist)
    for history in histories:
        if type(history[1]) not in READABLE:
            raise NotCarriable("a history given as a generator", "give a list", ("broker", "history"))
        history[1] = Remaining(tuple(history[1]))


class YearByYear:
    """What AnnualReturn.stop() computes in one walk over all bars, a bar at a time.

    The value of a bar is known when the observers have run, which is after the analyzers; so a
    bar is taken in on the next one. It needs as many bars in the first feed as in the observer.
    """

    _carried: tuple[int, int, float, float, tuple[tuple[int, float], ...]] | None
    data: Any
    strategy: Any

    def next(self) -> None:
        seen = self.__dict__.get("_carried", START)
        count = len(self.strategy.stats.broker)
        if seen is not None and count:
            aligned = count == len(self.data) - 1 == seen[0] + 1
            seen = (
                taken_in(seen, self.data.datetime.date(-1), self.strategy.stats.broker.value[0])
                if aligned
                else None
            )
        self._carried = seen

    def stop(self) -> None:
        seen = self.__dict__.get("_carried", START)
        value = self.strategy.stats.broker.value
        if seen is None or seen[0] != len(self.data) - 1 or len(value) != len(self.data):
            bt.analyzers.AnnualReturn.stop(self)
            return
        _, year, start, end, years = taken_in(seen, self.data.datetime.date(0), value[0])
        returns = OrderedDict(years)
        if year not in returns:
            returns[year] = (end / start) - 1.0
        self.__dict__["ret"] = returns
        self.__dict__["rets"] = list(returns.values())


START: Final[tuple[int, int, float, float, tuple[tuple[int, float], ...]]] = (0, -1, 0.0, 0.0, ())


def taken_in(
    seen: tuple[int, int, float, float, tuple[tuple[int, float], ...]], day: Any, value: float
) -> tuple[int, int, float, float, tuple[tuple[int, float], ...]]:
    """One round of the loop in AnnualReturn.stop: count, year, value at its start, last value, years done."""
    count, year, start, end, years = seen
    if day.year > year:
        if year >= 0:
            years = (*years, (year, (end / start) - 1.0))
            start = end
        else:
            start = value
        year = day.year
    return count + 1, year, start, value, years


@remembered
def _annual_return() -> type:
    original = bt.analyzers.AnnualReturn
    attributes = {
        "next": YearByYear.next, "stop": YearByYear.stop, "__module__": original.__module__,
        "__qualname__": original.__qualname__,
    }  # fmt: skip
    made: type = type.__new__(type(original), original.__name__, (original,), attributes)
    return made


def carry_analyzers(analyzers: list[Any]) -> None:
    """Exchange the analyzers that would walk over all bars, children included."""
    for analyzer in analyzers:
        if type(analyzer) is bt.analyzers.AnnualReturn:
            analyzer.__class__ = _annual_return()
        carry_analyzers(analyzer._children)
