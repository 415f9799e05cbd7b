"""When jobs fire: boundaries by arithmetic, cron as cron(5) and cron(8) have it (R1.6)."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.schedule import (
    Boundaries,
    Cron,
    InvalidSchedule,
    milliseconds,
    moment,
    parse,
    schedule_for,
)


def fires(expression, start, count):
    zone = expression.partition("CRON_TZ=")[2].partition(" ")[0] or "UTC"
    schedule = Cron(expression, 0)
    at, found = milliseconds(start), []
    for _ in range(count):
        at = schedule.next_ms(at)
        found.append(moment(at).astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M%z"))
    return found


@given(
    after=st.integers(0, 10**14),
    interval=st.sampled_from(["1s", "1m", "15m", "4h", "1d", "1w"]),
    settle=st.integers(0, 60_000),
)
@settings(max_examples=200)
def test_the_next_boundary_is_the_first_one_after(after, interval, settle):
    trigger = Boundaries(interval, settle)
    found = trigger.next_ms(after)
    assert found > after
    assert found - after <= trigger.length_ms
    assert (found - settle) % trigger.length_ms == 0


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 9 * * mon-fri", ["11-20 09:00+0000", "11-23 09:00+0000"]),
        ("0 9 * * 1-5", ["11-20 09:00+0000", "11-23 09:00+0000"]),
        ("0 9 * * 0", ["11-22 09:00+0000", "11-29 09:00+0000"]),
        ("0 9 * * 7", ["11-22 09:00+0000", "11-29 09:00+0000"]),
        ("0 9 * * SAT-SUN", ["11-21 09:00+0000", "11-22 09:00+0000"]),
        ("0 9 * * */2", ["11-21 09:00+0000", "11-22 09:00+0000"]),
        ("0 9 1 * 5", ["11-20 09:00+0000", "11-27 09:00+0000", "12-01 09:00+0000"]),
        ("*/5 * * * *", ["11-20 00:05+0000", "11-20 00:10+0000"]),
        ("@daily", ["11-21 00:00+0000", "11-22 00:00+0000"]),
        ("CRON_TZ=America/New_York 30 9 * * *", ["11-20 09:30-0500", "11-21 09:30-0500"]),
    ],
)
def test_expressions(expression, expected):
    assert fires(expression, datetime(2026, 11, 20, tzinfo=UTC), len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        # A time of day that summer time leaves out comes shifted by the change, once.
        ("30 2 * * *", (2026, 3, 28), ["03-28 02:30+0100", "03-29 03:30+0200", "03-30 02:30+0200"]),
        # One that winter time repeats comes once.
        ("30 2 * * *", (2026, 10, 24), ["10-24 02:30+0200", "10-25 02:30+0200", "10-26 02:30+0100"]),
        # Every half hour goes on in real time through both.
        ("*/30 * * * *", (2026, 3, 29, 0, 40), ["03-29 03:00+0200", "03-29 03:30+0200"]),
        (
            "*/30 * * * *",
            (2026, 10, 25, 0, 10),
            ["10-25 02:30+0200", "10-25 02:00+0100", "10-25 02:30+0100", "10-25 03:00+0100"],
        ),
    ],
)
def test_summer_time(expression, start, expected):
    """A18."""
    assert (
        fires(f"CRON_TZ=Europe/Berlin {expression}", datetime(*start, tzinfo=UTC), len(expected)) == expected
    )


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
)
def test_a_daily_time_fires_each_day_once_in_a_year(zone):
    schedule = Cron(f"CRON_TZ={zone} 15 2 * * *", 0)
    at = milliseconds(datetime(2026, 1, 1, 12, tzinfo=UTC))
    days = []
    for _ in range(365):
        at = schedule.next_ms(at)
        days.append(moment(at).astimezone(ZoneInfo(zone)).date())
    assert len(set(days)) == 365
    assert (days[-1] - days[0]).days == 364


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("* * * *", "4 fields"),
        ("", "0 fields"),
        ("* * * * * *", "6 fields"),
        ("61 * * * *", "61"),
        ("* 24 * * *", "24"),
        ("* * * * 8", "weekday"),
        ("* * * * fri-mon", "backwards"),
        ("* * * * */0", "step"),
        ("0 0 30 2 *", "never fires"),
        ("CRON_TZ=Mars/Olympus * * * * *", "time zone"),
        ("a b c d e", "weekday"),
        ("x * * * *", "Unrecognized"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(expression, why):
    with pytest.raises(InvalidSchedule, match=why):
        Cron(expression, 0)


def test_a_trigger_survives_its_row():
    for trigger in (Boundaries("15m", 1500), Cron("CRON_TZ=Europe/Berlin 0 9 * * 1-5", 0)):
        assert parse(trigger.as_json()) == trigger
    for found in (
        {},
        {"interval": "1m"},
        {"cron": "* * * * *", "settle_ms": "1"},
        {"interval": "1y", "settle_ms": 0},
        7,
    ):
        with pytest.raises(InvalidSchedule):
            parse(found)


def test_a_cron_of_the_row_overrides_the_boundary():
    assert schedule_for("1m", None, 5) == Boundaries("1m", 5)
    assert schedule_for("1m", "  ", 5) == Boundaries("1m", 5)
    assert schedule_for("1m", "0 9 * * *", 5) == Cron("0 9 * * *", 5)
    assert Cron("0 9 * * *", 1500).next_ms(0) == 9 * 3_600_000 + 1500, "the bar has to settle"
