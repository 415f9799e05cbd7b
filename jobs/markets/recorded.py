"""A source whose bars are recorded the first time they are seen and read from the database afterwards.

What is recorded of a series is one run of bars that only grows at its two ends. A bar that the
source leaves out while later ones exist is a gap, for ever and for every bot; a bar that shows up
late inside the run, and numbers that the source revises, change nothing and are reported.

True between any two calls: the run has no hole that the source was not asked about. So whatever lies inside
it is final, and a wish that lies inside needs no source. Three rules keep it so, whatever dies:
- new bars are recorded only if they touch the run: what was asked for reaches its last bar, or its first
  (`admissible`, under the lock of the series, against the run as it is then);
- the front is fetched backwards, page by page, from the run towards the past. Fetched forwards, a death
  would leave an island, and the sea between it and the run would pass for a gap;
- the back is fetched from the last recorded bar on, which the source thus shows once more: if it is another
  price by far, this is not the same market, and nothing is recorded.

The back comes before the front, because the newest bars are what all bots wait for; if the time of a wish is
over, the front goes on with the next one.

What was fetched is recorded first and then read back, and the bots see what was read. So two processes that
fetched different answers still see the same bars: those of the one that recorded first.

Memory (`_Known`) holds a part of the run, which is final, and what the source was last known not to have.
Forgetting it costs a question, never a bar.

States of a wish for (after, until]: in memory -> answered; recorded -> read; beyond an end of the run ->
fetched, recorded, read. No transaction is open while the source is asked.

| the process dies ... | the database | the next run |
|---|---|---|
| while the source answers | as before | asks the same again |
| after the answer, before the record | as before | asks again; nobody has seen the first answer |
| inside the record | as before, the transaction is gone | the same |
| after the record, before it is read | the bars | reads them |

Two processes that fetch the same bars at once: both insert under the lock of the series, in turn;
the second finds the run grown and adds only what lies beyond it.
"""

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from jobs.clock import Clock, SystemClock
from jobs.markets.port import Market, MarketUnavailable
from persistence.bars import lock_series, read_bars, record_bars, recorded_range
from persistence.columns import DamagedRow
from persistence.database import Database
from strategies.values import Bar, interval_ms

# Series whose newest bars are kept in memory, and how many bars are read ahead of what is asked for.
MOST_SERIES: Final = 64
READ_AHEAD: Final = 500
# How long a series is not asked for again, when its due bar is not there yet, by any bot of the process.
REASK_S: Final = 0.4
# How long one wish may go on fetching. What it got until then is recorded; the next wish goes on.
MOST_SECONDS: Final = 10.0
# A last bar that the source shows anew at half or twice the price is not the same market.
SAME_MARKET: Final = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Span:
    """What of a series was asked for: open times `after < t < before`, ms."""

    after: int
    before: int


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of the recorded run in memory: all recorded bars with after < open time <= last."""

    after: int
    last: int
    bars: tuple[Bar, ...]

    def within(self, after: int, newest: int) -> tuple[Bar, ...]:
        first = bisect_right(self.bars, after, key=_open_time)
        return self.bars[first : bisect_right(self.bars, newest, key=_open_time)]


def _open_time(bar: Bar) -> int:
    return bar.open_time


@dataclass(slots=True)
class _Known:
    """What this process knows of a series beside the database."""

    window: _Window | None = None
    empty_before: int | None = None  # from this open time to the first recorded bar the source has nothing
    quiet_last: int = -1  # behind this recorded bar ...
    quiet_newest: int | None = None  # the source had nothing up to here ...
    quiet_until: float = 0.0  # ... when it was asked; monotonic, s


def admissible(bars: Sequence[Bar], span: Span, recorded: tuple[int, int] | None) -> tuple[Bar, ...]:
    """Return the bars that lengthen the recorded run without leaving a hole that nobody asked about."""
    if recorded is None:
        return tuple(bars)
    first, last = recorded
    front = tuple(bar for bar in bars if bar.open_time < first) if span.before >= first else ()
    back = tuple(bar for bar in bars if bar.open_time > last) if span.after <= last else ()
    return front + back


@dataclass(slots=True)
class RecordedMarket:
    """`market` as `database` remembers it under the name `source`. Threads may share it."""

    database: Database
    source: str
    market: Market
    clock: Clock = field(default_factory=SystemClock)
    _known: OrderedDict[tuple[str, str], _Known] = field(default_factory=OrderedDict, init=False, repr=False)
    # Held while the source is asked: the threads of a process ask it once, and not one after the other.
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    def closed_bars(self, symbol: str, interval: str, after: int | None, until: int) -> tuple[Bar, ...]:
        """Return all bars of a wish, recorded if they were not; however many, never a part of them.

        Raises what the source raises, and DatabaseUnavailable; MarketUnavailable also if fetching takes
        more than MOST_SECONDS: what came is recorded, and the next wish goes on behind it.
        """
        length = interval_ms(interval)
        newest = until - until % length - length
        with self._lock:
            known = self._series(symbol, interval)
            start = -1 if after is None else after
            if known.window is not None and _answers(known, known.window, start, newest):
                return known.window.within(start, newest)
            run = _Run(self, symbol, interval, known)
            try:
                run.lengthen(after, until, newest)
                return run.read(start, until, newest)
            except DamagedRow as exc:
                where = f"{self.source}: {symbol} {interval}: a row of bars is damaged"
                raise MarketUnavailable(f"{where}: {exc}; set it right by SQL") from exc

    def _series(self, symbol: str, interval: str) -> _Known:
        known = self._known.setdefault((symbol, interval), _Known())
        self._known.move_to_end((symbol, interval))
        while len(self._known) > MOST_SERIES:
            self._known.popitem(last=False)
        return known


def _answers(known: _Known, window: _Window, after: int, newest: int) -> bool:
    """Return whether memory alone can answer."""
    quiet = known.quiet_newest is not None and newest <= known.quiet_newest
    waits = quiet and window.last >= known.quiet_last  # else there are recorded bars behind the window
    there = newest <= window.last or (waits and time.monotonic() < known.quiet_until)
    return after >= window.after and there


def _next_open(time: int, length: int) -> int:
    """Return the first open time after `time`."""
    return time - time % length + length


@dataclass(frozen=True, slots=True)
class _Run:
    """The recorded run of one series, while it is being lengthened and read."""

    owner: RecordedMarket
    symbol: str
    interval: str
    known: _Known

    def lengthen(self, after: int | None, until: int, newest: int) -> None:
        """Record what the source has outside the run, up to `until` and back to `after`."""
        recorded = self._recorded()
        deadline = time.monotonic() + MOST_SECONDS
        whole = False
        if recorded is None:
            whole = after is not None and self._is_whole(after, until)
            recorded = self._begin(after, until)
        if recorded is None:
            self._be_quiet(-1, newest)
            return
        last = recorded[1]
        # What a whole answer left out is not there, so there is nothing to ask again.
        if not whole:
            last = self._lengthen_back(last, until, newest, deadline)
        if last < newest:
            # The due bar is late. All bots of this process wait for it and would ask one after the other.
            self._be_quiet(last, newest)
        if after is not None:
            self._lengthen_front(after, recorded[0], deadline)

    def _begin(self, after: int | None, until: int) -> tuple[int, int] | None:
        bars = self._fetch(after, until)
        if not bars:
            return self._recorded()
        start = -1 if after is None else after
        # The answer may have ended early, so it says nothing about what comes behind its last bar.
        recorded = self._record(bars, Span(start, bars[-1].open_time + 1))
        # Unless another process was quicker, the run begins where this answer does.
        if recorded is not None and recorded[0] == bars[0].open_time:
            self.known.empty_before = _next_open(start, interval_ms(self.interval))
        return recorded

    def _lengthen_back(self, last: int, until: int, newest: int, deadline: float) -> int:
        while last < newest:
            bars = self._fetch(last - 1, until)  # the last recorded bar once more, to be compared
            self._compare_last(bars, last)
            recorded = self._record([bar for bar in bars if bar.open_time > last], Span(last - 1, until))
            reached = last if recorded is None else recorded[1]
            if reached == last or self._is_whole(last - 1, until):
                return reached
            last = reached
            self._check_time(deadline)
        return last

    def _lengthen_front(self, after: int, first: int, deadline: float) -> None:
        """Go back page by page, so that whatever is recorded touches the run when the process dies."""
        length = interval_ms(self.interval)
        earliest = _next_open(after, length)
        before = first if self.known.empty_before is None else min(first, self.known.empty_before)
        while earliest < before:
            start = max(after, before - self.owner.market.page_bars * length - 1)
            # Between `before` and the run the source has nothing: what is asked for reaches the run.
            self._record(self._fetch(start, before), Span(start, first))
            before = _next_open(start, length)
            self.known.empty_before = before
            if earliest < before:
                self._check_time(deadline)

    def _check_time(self, deadline: float) -> None:
        """End a wish that takes too long. Half of its bars would look as if the rest did not exist."""
        if time.monotonic() > deadline:
            raise MarketUnavailable(
                f"{self.owner.source}: {self.symbol} {self.interval}: bars are still being fetched"
            )

    def _is_whole(self, after: int, until: int) -> bool:
        """Return whether the source answers all of this or nothing; what it leaves out is not there."""
        return until - after <= (self.owner.market.page_bars + 1) * interval_ms(self.interval)

    def _fetch(self, after: int | None, until: int) -> tuple[Bar, ...]:
        return self.owner.market.closed_bars(self.symbol, self.interval, after, until)

    def _recorded(self) -> tuple[int, int] | None:
        with self.owner.database.read() as connection:
            return recorded_range(connection, self.owner.source, self.symbol, self.interval)

    def _record(self, bars: Sequence[Bar], span: Span) -> tuple[int, int] | None:
        """Insert what lengthens the run, and return the run as it is then."""
        if not bars:
            return self._recorded()
        name = (self.owner.source, self.symbol, self.interval)
        with self.owner.database.write() as connection:
            lock_series(connection, *name)
            # Judged against the run as it is under the lock, not as it was when the source was asked.
            wanted = admissible(bars, span, recorded_range(connection, *name))
            record_bars(connection, *name, wanted, self.owner.clock.now_ms())
            return recorded_range(connection, *name)

    def _compare_last(self, bars: Sequence[Bar], last: int) -> None:
        """Report a revision of the last recorded bar, which the source shows once more."""
        shown = next((bar for bar in bars if bar.open_time == last), None)
        if shown is None:
            return
        kept = self._kept(last)
        if shown == kept:
            return
        log.warning("bar revised", source=self.owner.source, shown=shown, kept=kept)
        ratio = shown.close / kept.close
        if not 1 / SAME_MARKET < ratio < SAME_MARKET:
            raise MarketUnavailable(
                f"{self.owner.source}: {self.symbol}: closed at {shown.close!r} where {kept.close!r} "
                "is recorded; this is another market"
            )

    def _kept(self, last: int) -> Bar:
        window = self.known.window
        if window is not None and window.bars and window.bars[-1].open_time == last:
            return window.bars[-1]
        with self.owner.database.read() as connection:
            (kept,) = read_bars(
                connection, self.owner.source, self.symbol, self.interval, last - 1, None, limit=1
            )
        return kept

    def _be_quiet(self, last: int, newest: int) -> None:
        self.known.quiet_last = last
        self.known.quiet_newest = newest
        self.known.quiet_until = time.monotonic() + REASK_S

    def read(self, after: int, until: int, newest: int) -> tuple[Bar, ...]:
        """Read a wish back, and some recorded bars after it, which a replay will want next."""
        length = interval_ms(self.interval)
        ahead = newest - after <= READ_AHEAD * length
        with self.owner.database.read() as connection:
            bars = read_bars(
                connection,
                self.owner.source,
                self.symbol,
                self.interval,
                after,
                None if ahead else until,
                limit=READ_AHEAD if ahead else None,
            )
        last = bars[-1].open_time if bars else after
        # A window of years is for one reader; memory is for the many who want the newest bars.
        if ahead:
            self.known.window = _Window(after, last, bars)
        return tuple(bar for bar in bars if bar.open_time <= newest)
