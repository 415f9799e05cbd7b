"""Which bars a replay fires at: all of a series, in order, none twice, gaps skipped at once."""

import random
from dataclasses import dataclass, field

import pytest

from jobs.markets import Series
from jobs.replay.agenda import WINDOW_BARS, Agenda, Calendar
from strategies.values import Bar, interval_ms

MINUTE = 60_000


@dataclass
class Shelf:
    """A market that holds the bars it was given and counts how often it is asked."""

    times: list[int]
    asked: list[tuple[int, int]] = field(default_factory=list)

    def closed_bars(self, series: Series, after: int, until: int) -> tuple[Bar, ...]:
        self.asked.append((after, until))
        length = interval_ms(series.interval)
        return tuple(Bar(t, 1.0, 1.0, 1.0, 1.0, 1.0) for t in self.times if after < t <= until - length)


def _calendar(times, end):
    shelf = Shelf(times)
    return Calendar(Series("csv:x", "BTCUSDT", "1m"), shelf, end), shelf


def _walk(calendar, start):
    found, at = [], start
    while (at := calendar.after(at)) is not None:
        found.append(at)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_every_bar_is_visited_once_and_in_order(seed):
    rng = random.Random(seed)
    times = sorted(rng.sample(range(9_000), rng.randint(0, 6_000)))
    times = [each * MINUTE for each in times]
    end = rng.randint(1, 9_000) * MINUTE
    start = rng.randint(-100, 9_000) * MINUTE
    calendar, _ = _calendar(times, end)
    assert _walk(calendar, start) == [t for t in times if start < t <= end - MINUTE]


def test_a_bar_that_closes_after_the_end_is_left_out():
    calendar, _ = _calendar([0, MINUTE, 2 * MINUTE], 3 * MINUTE - 1)
    assert _walk(calendar, -1) == [0, MINUTE]


def test_a_gap_of_years_costs_a_few_reads():
    late = 20 * 365 * 24 * 60 * MINUTE
    calendar, shelf = _calendar([0, late], late + MINUTE)
    assert _walk(calendar, -1) == [0, late]
    assert len(shelf.asked) < 20


def test_bots_at_different_cursors_share_a_calendar():
    times = [each * MINUTE for each in range(3 * WINDOW_BARS)]
    calendar, _ = _calendar(times, times[-1] + MINUTE)
    assert calendar.after(2 * WINDOW_BARS * MINUTE) == (2 * WINDOW_BARS + 1) * MINUTE
    assert calendar.after(-1) == 0
    assert calendar.after(2 * WINDOW_BARS * MINUTE) == (2 * WINDOW_BARS + 1) * MINUTE


def test_the_agenda_gives_everybody_of_a_moment_at_once():
    agenda = Agenda()
    for moment, bot_id in ((5, 2), (3, 9), (5, 1), (5, 3)):
        agenda.put(moment, bot_id)
    assert agenda.pop() == (3, (9,))
    assert agenda.pop() == (5, (1, 2, 3))
    assert agenda.pop() is None
