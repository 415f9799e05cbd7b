"""Public candles of any exchange that ccxt knows.

One question is one page after the other, oldest first. A page that fails after others came ends
the answer early, with what is certain; the next question goes on behind it. A page with a hole is
asked for once more before the hole counts as a gap, because venues lose candles for a moment.
Nothing is retried in here: the caller's next fire is the retry, and the breaker says when.

What an answer says about what it leaves out is what `recorded.py` builds on: a bar that is missing before the
last one of the answer is a gap for ever. So pages are strictly in order, one begins behind the last bar
of the one before, and none is skipped. A short question (at most `page_bars`) is answered whole or not at
all; only a long one may end early, and then says nothing about what lies behind its last bar.

Around every single request, in this order: is the exchange to be left alone (`breaker.py`), ask, remember
how it went. The rate limit of ccxt is counted per exchange object; there is one, under one lock.

If the process dies here, nothing was written and the next run asks again.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog

from jobs.clock import Clock, SystemClock
from jobs.markets.breaker import CLOSED, BreakerStore, MemoryBreakers, Trouble, after_trouble
from jobs.markets.candles import Asked, closed, has_holes, sound_bars
from jobs.markets.ccxt_border import (
    VenueFailed,
    connect,
    page_of,
    page_size,
    symbols_of,
    timeframe_of,
)
from jobs.markets.port import Fetched, MarketRefused, MarketUnavailable, Rejected, canonical_symbol
from strategies.faults import Fault
from strategies.values import Bar, interval_ms

# An answer ends after this many pages or seconds, so that nobody waits for years of candles in one step.
MOST_PAGES: Final = 30
MOST_SECONDS: Final = 5.0
PAGE_BARS: Final = 1_000
# How long an unknown symbol stays unknown before the list of markets is asked for again.
LIST_AGE_S: Final = 600.0
MOST_REPORTED: Final = 5

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(slots=True)
class ExchangeMarket:
    """One exchange, one request at a time. `base_url` leads all of its addresses elsewhere, for tests."""

    exchange_id: str
    timeout_ms: int = 10_000
    base_url: str | None = None
    clock: Clock = field(default_factory=SystemClock)
    breakers: BreakerStore = field(default_factory=MemoryBreakers)
    page_bars: int = field(default=PAGE_BARS, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _exchange: Any = field(default=None, init=False, repr=False)  # ccxt's, opened by the first question
    # ccxt's symbol by canonical name, None where a name means several; and when they were listed.
    _symbols: dict[str, str | None] = field(default_factory=dict, init=False, repr=False)
    _listed_at: float | None = field(default=None, init=False, repr=False)

    def closed_bars(self, symbol: str, interval: str, after: int | None, until: int) -> tuple[Bar, ...]:
        fetched = self._fetched(symbol, interval, after, until)
        if fetched.rejected:
            log.warning(
                "candles left out",
                exchange=self.exchange_id,
                symbol=symbol,
                interval=interval,
                count=len(fetched.rejected),
                first=fetched.rejected[:MOST_REPORTED],
            )
        return fetched.bars

    def _fetched(self, symbol: str, interval: str, after: int | None, until: int) -> Fetched:
        if after is None:
            raise MarketRefused(f"{self.exchange_id}: found no beginning, allowed: bars after a given time")
        asked = Asked(after, until, interval_ms(interval))
        with self._lock:
            if self._exchange is None:
                self._exchange = connect(self.exchange_id, self.timeout_ms, self.base_url)
            timeframe = timeframe_of(self._exchange, interval)
            name = self._symbol(canonical_symbol(symbol))
            return self._pages(name, timeframe, asked)

    def _symbol(self, symbol: str) -> str:
        # A symbol that nobody lists must not have the list of thousands asked for at every bar.
        unlisted = self._listed_at is None or time.monotonic() - self._listed_at > LIST_AGE_S
        if symbol not in self._symbols and unlisted:
            self._symbols = self._guarded(lambda: symbols_of(self._exchange))
            self._listed_at = time.monotonic()
        if symbol not in self._symbols:
            raise MarketRefused(Fault("symbol", repr(symbol), f"one that {self.exchange_id} lists"))
        name = self._symbols[symbol]
        if name is None:
            found = f"{symbol!r}, which means several markets of {self.exchange_id}"
            raise MarketRefused(Fault("symbol", found, "a name of one of them alone"))
        return name

    def _pages(self, name: str, timeframe: str, asked: Asked) -> Fetched:
        bars: list[Bar] = []
        rejected: list[Rejected] = []
        deadline = time.monotonic() + MOST_SECONDS
        # A short answer is whole or none, so that who asked knows what is not there.
        long = asked.until - asked.after > (self.page_bars + 1) * asked.length
        size = page_size(self._exchange)
        position: Asked | None = asked
        pages = 0
        while position is not None:
            try:
                page = self._page(name, timeframe, position, size)
            except MarketUnavailable:
                # What came before is certain and must not be lost to what comes after.
                if long and bars:
                    break
                raise
            bars += page.bars
            rejected += page.rejected
            position = _next(position, page, size)
            pages += 1
            if long and (pages >= MOST_PAGES or time.monotonic() > deadline):
                break
        return Fetched(bars=tuple(bars), rejected=tuple(rejected))

    def _page(self, name: str, timeframe: str, asked: Asked, size: int) -> Fetched:
        """Ask for one page, and once more if it would leave a hole: venues lose candles for a moment."""
        page = self._ask(name, timeframe, asked, size)
        if not _doubtful(page, asked, size):
            return page
        again = self._ask(name, timeframe, asked, size)
        # Both answers are true as far as they go. What both show is kept as it was shown first.
        known = {bar.open_time: bar for bar in (*again.bars, *page.bars)}
        bars = tuple(known[opened] for opened in sorted(known))
        return Fetched(bars=bars, rejected=(*page.rejected, *again.rejected))

    def _ask(self, name: str, timeframe: str, asked: Asked, size: int) -> Fetched:
        since = (asked.after // asked.length + 1) * asked.length

        def question() -> Fetched:
            page = page_of(self._exchange, name, timeframe, since, size)
            bars, rejected = sound_bars(page.candles, asked.length)
            return Fetched(bars=closed(bars, asked, page.venue_now), rejected=rejected)

        return self._guarded(question)

    def _guarded(self, question: Callable[[], T]) -> T:
        """Ask unless the exchange is to be left alone, and remember how it went."""
        # Loaded for every question: another worker may have met a ban a moment ago.
        breaker = self.breakers.load(self.exchange_id)
        if wait := breaker.closes_in(self.clock.now_ms()):
            raise MarketUnavailable(f"{self.exchange_id} is left alone: {breaker.reason}", wait)
        try:
            answer = question()
        except MarketUnavailable as exc:
            trouble = exc.trouble if isinstance(exc, VenueFailed) else Trouble(str(exc))
            now = self.clock.now_ms()
            broken = after_trouble(breaker, trouble, now)
            self.breakers.save(self.exchange_id, broken)
            raise MarketUnavailable(str(exc), broken.closes_in(now) or None) from exc
        if breaker != CLOSED:  # else nothing has changed, and a good answer costs no write
            self.breakers.save(self.exchange_id, CLOSED)
        return answer


def _next(asked: Asked, page: Fetched, size: int) -> Asked | None:
    """Return what to ask for after `page`, None at the end."""
    # A venue that answers by window of time shows nothing for a window that lies in a gap.
    window_end = asked.after - asked.after % asked.length + size * asked.length
    after = page.bars[-1].open_time if page.bars else window_end
    return Asked(after, asked.until, asked.length) if after + 2 * asked.length <= asked.until else None


def _doubtful(page: Fetched, asked: Asked, size: int) -> bool:
    """Return whether going on behind this page would leave a hole."""
    return has_holes(page.bars, asked) if page.bars else _next(asked, page, size) is not None
