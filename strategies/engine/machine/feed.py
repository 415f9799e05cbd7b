"""Bars that are pushed in, one at a time, from outside the loop."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import backtrader as bt
from backtrader.utils import date2num

from strategies.values import Bar, Feed, interval_ms

EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 -- Backtrader computes with naive UTC
EPOCH_DAY: Final = EPOCH.toordinal()
DAY_MS: Final = 86_400_000
TICKS: Final = tuple(
    f"tick_{name}" for name in ("close", "low", "high", "open", "volume", "openinterest", "last")
)
TIMEFRAMES: Final = {
    "s": (bt.TimeFrame.Seconds, 1),
    "m": (bt.TimeFrame.Minutes, 1),
    "h": (bt.TimeFrame.Minutes, 60),
    "d": (bt.TimeFrame.Days, 1),
    "w": (bt.TimeFrame.Weeks, 1),
}


class PushFeed(bt.feed.DataBase):  # type: ignore[misc]  # Backtrader has no types
    """A data feed whose bars are put into `queue` (values in the order of Backtrader's lines)."""

    def __init__(self) -> None:
        super().__init__()
        # More than one bar can wait: a resampled bar is held until a feed that leads has moved on.
        self.queue: deque[tuple[float, ...]] = deque()

    plain = False  # nothing stands between a bar and the lines
    reads_ahead = False  # the reference run preloads, see `next`

    def next(self, datamaster: Any = None, ticks: bool = True) -> Any:
        """Run all filters over what there is first, as preloading does, then deliver bar by bar.

        A filter that takes bars away or puts several in their place tells `load` that there is one in
        any case: preloading does not mind, a loop over `load` would deliver the former bar again.
        """
        if self.plain and datamaster is None:
            return self._push()
        if self.queue and self.reads_ahead:
            delivered = len(self)
            self.lines.advance(self.buflen() - delivered)
            while self.load():
                pass
            self.lines.rewind(len(self) - delivered)
        return super().next(datamaster=datamaster, ticks=ticks)

    def _push(self) -> bool:
        """Do the same as `load` for a feed without filters, limits or time zones."""
        lines = self.lines.lines
        if lines[0]._idx + 1 < len(lines[0]._tail):  # a bar that was held back
            self.lines.advance()
            return True
        if not self.queue:
            return False
        for line, value in zip(lines, self.queue.popleft(), strict=True):
            line._tail.append(value)
            line._idx += 1
            line.lencount += 1
        return True

    def _tick_fill(self, force: bool = False) -> None:
        names: dict[str, Any] = self.__dict__
        if force or names[TICKS[0]] is None:
            for name, line in zip(TICKS, self.lines.lines, strict=False):
                names[name] = line._tail[line._idx]
            names[TICKS[-1]] = names[TICKS[0]]

    def _load(self) -> bool:
        if not self.queue:
            return False
        for line, value in zip(self.lines.lines, self.queue.popleft(), strict=True):
            line[0] = value
        return True


def new_feed(feed: Feed) -> Any:
    """Make the Backtrader feed; an intraday one is days to Backtrader unless it is told."""
    timeframe, factor = TIMEFRAMES[feed.interval[-1]]
    make: Any = PushFeed  # its metaclass takes the parameters
    return make(
        dataname=feed.name, name=feed.name, timeframe=timeframe, compression=int(feed.interval[:-1]) * factor
    )


def stamps_of(feeds: Sequence[Feed]) -> tuple[int, ...]:
    """Return what to add to a bar's open time, in ms, per feed.

    A bar of a longer interval is stamped with the open time of the last bar of the shortest interval
    that it contains: bars that close together arrive together and nothing is seen early.
    """
    lengths = [interval_ms(feed.interval) for feed in feeds]
    return tuple(length - min(lengths) for length in lengths)


def values_of(bar: Bar, stamp_ms: int) -> tuple[float, ...]:
    """Return close, low, high, open, volume, open interest, datetime: the order of Backtrader's lines."""
    return (bar.close, bar.low, bar.high, bar.open, bar.volume, 0.0, number_of(stamp_ms))


@lru_cache(maxsize=1024)  # bots that share an interval share the stamp of a bar
def number_of(stamp_ms: int) -> float:
    """Backtrader's number for a moment: days since year 1."""
    number: float = date2num(EPOCH + timedelta(milliseconds=stamp_ms))
    return number


def ms_of(number: float) -> int:
    """Return the moment of one of Backtrader's numbers in ms; the inverse of `number_of`."""
    return round((number - EPOCH_DAY) * DAY_MS)
