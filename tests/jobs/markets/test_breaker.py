"""R8.7: an exchange that fails is left alone, for longer and longer, and a ban to its end."""

import pytest

from jobs.markets.breaker import CLOSED, LONGEST_BAN_MS, LONGEST_PAUSE_MS, Breaker, Trouble, after_trouble

NOW = 1_700_000_000_000


def after(*troubles: Trouble) -> list[int]:
    """Return the pauses after the troubles."""
    breaker, now, pauses = CLOSED, NOW, []
    for trouble in troubles:
        breaker = after_trouble(breaker, trouble, now)
        pauses.append(breaker.closes_in(now))
        now += breaker.open_for
    return pauses


def test_a_closed_breaker_lets_everybody_through():
    assert CLOSED.closes_in(NOW) == 0


def test_quick_failures_are_tolerated_then_pauses_double_to_a_limit():
    pauses = after(*[Trouble("502")] * 9)
    assert pauses == [0, 0, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 30_000]
    assert max(pauses) == LONGEST_PAUSE_MS


def test_a_time_out_has_cost_enough_to_pause_at_once():
    assert after(*[Trouble("slow", slow=True)] * 4) == [1_000, 2_000, 4_000, 8_000]


def test_the_venues_own_word_counts():
    assert after(Trouble("418", pause_ms=77_000)) == [77_000]
    assert after(Trouble("429", pause_ms=0)) == [1_000]
    assert after(Trouble("418", pause_ms=10**12)) == [LONGEST_BAN_MS]


def test_the_pause_ends_to_the_ms():
    breaker = Breaker(3, NOW, 5_000, "x")
    assert [breaker.closes_in(NOW + ms) for ms in (0, 1, 4_999, 5_000, 9_999)] == [5_000, 4_999, 1, 0, 0]


@pytest.mark.parametrize("back_ms", [1, 3_600_000, 10**12])
def test_a_clock_that_is_set_back_does_not_prolong_a_pause(back_ms):
    assert Breaker(3, NOW, 5_000, "x").closes_in(NOW - back_ms) == 0
