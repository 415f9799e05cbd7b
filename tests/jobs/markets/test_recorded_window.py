"""A replay reads years ahead and then bar by bar: what it keeps in memory must not hide what is recorded."""

from jobs.markets.recorded import RecordedMarket
from strategies.values import Bar

MINUTE = 60_000
BARS = tuple(Bar(n * MINUTE, 1.0, 1.0, 1.0, 1.0, 1.0) for n in range(100))


class Shelf:
    """A source with a hundred bars and nothing after them."""

    page_bars = 1_000

    def closed_bars(self, symbol, interval, after, until):
        del symbol, interval
        return tuple(bar for bar in BARS if after < bar.open_time <= until - MINUTE)


def test_bars_recorded_behind_the_window_are_still_found_while_the_source_is_left_alone(database):
    market = RecordedMarket(database, "shelf", Shelf())

    def ask(first, last):
        return market.closed_bars("X", "1m", first * MINUTE - 1, (last + 1) * MINUTE)

    assert ask(10, 49) == BARS[10:50]
    assert ask(50, 100_000) == BARS[50:]
    assert ask(50, 50) == BARS[50:51]
