"""A source of bars in memory that a test fills, cuts and listens to."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from jobs.markets import MOST_BARS, MarketUnavailable
from strategies.values import Bar

MIN = 60_000
START = 1_620_000_000_000


def bar(index: int, close: float = 10.5) -> Bar:
    return Bar(START + index * MIN, 10.0, max(11.0, close), min(9.0, close), close, float(index))


def at(index: int) -> int:
    return START + index * MIN


@dataclass
class Shelf:
    """`bars` may change at any time; `listener` is called while a question is under way."""

    bars: list[Bar]
    page_bars: int = MOST_BARS
    longest: int = MOST_BARS
    down: bool = False
    asked: list[tuple[int | None, int]] = field(default_factory=list)
    listener: Callable[[], None] = lambda: None

    def closed_bars(self, symbol: str, interval: str, after: int | None, until: int) -> tuple[Bar, ...]:
        assert (symbol, interval) == ("BTCUSDT", "1m")
        self.asked.append((after, until))
        if self.down:
            raise MarketUnavailable("down")
        start = -1 if after is None else after
        shown = [bar for bar in self.bars if start < bar.open_time and bar.open_time + MIN <= until]
        # As an exchange does: a short answer is whole, a long one may end early.
        whole = until - start <= (self.page_bars + 1) * MIN
        self.listener()
        return tuple(shown if whole else shown[: self.longest])


def shelf(indexes: Iterable[int], **kwargs) -> Shelf:
    return Shelf([bar(index) for index in indexes], **kwargs)
