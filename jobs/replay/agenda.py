"""Which bots have a bar at which moment of a replay: in order, one bar per bot and boundary, gaps left out.

A series' open times are read ahead in windows, so that a gap of years costs a few reads and not a
look at every boundary in it.
"""

import bisect
import heapq
from array import array
from dataclasses import dataclass, field
from typing import Final, Protocol

from jobs.markets import Series
from jobs.markets.port import MOST_BARS
from strategies.values import Bar, interval_ms

WINDOW_BARS: Final = 2_000


class Bars(Protocol):
    def closed_bars(self, series: Series, after: int, until: int) -> tuple[Bar, ...]: ...


@dataclass(slots=True)
class Calendar:
    """Open times of one series that close by `end` (ms); bots of a series ask in any order.

    `_times` holds all of them behind `_since` up to and including `_known`.
    """

    series: Series
    markets: Bars
    end: int
    _times: "array[int]" = field(default_factory=lambda: array("q"))
    _since: int | None = None
    _known: int = 0

    def after(self, open_time: int) -> int | None:
        """Return the first open time behind `open_time`; None if none closes by `end`.

        Raises MarketUnavailable and MarketRefused.
        """
        if self._since is None or open_time < self._since:
            self._since = self._known = open_time
            self._times = array("q")
        window = WINDOW_BARS
        while (at := bisect.bisect_right(self._times, open_time)) == len(self._times):
            if not self._read(window):
                return None
            window *= 2  # nothing found: the file may begin years later
        return self._times[at]

    def _read(self, window: int) -> bool:
        length = interval_ms(self.series.interval)
        last = self.end - length
        if self._known >= last:
            return False
        upto = min(last, self._known + window * length)
        bars = self.markets.closed_bars(self.series, self._known, upto + length)
        self._times.extend(bar.open_time for bar in bars)
        self._known = bars[-1].open_time if len(bars) >= MOST_BARS else upto
        return True


@dataclass(slots=True)
class Agenda:
    """Bots by the moment (ms) at which they are next to be fired."""

    _entries: list[tuple[int, int]] = field(default_factory=list)

    def put(self, moment: int, bot_id: int) -> None:
        heapq.heappush(self._entries, (moment, bot_id))

    def pop(self) -> tuple[int, tuple[int, ...]] | None:
        """Take the earliest moment and all bots that are due then, by id; None at the end."""
        if not self._entries:
            return None
        moment = self._entries[0][0]
        bots = []
        while self._entries and self._entries[0][0] == moment:
            bots.append(heapq.heappop(self._entries)[1])
        return moment, tuple(bots)
