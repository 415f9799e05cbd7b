"""When a bot looks for bars: at the boundaries of its interval, or by a cron expression of its row.

Values and arithmetic only: no clock, no database. The scheduler stores a schedule as JSON and fires by
it, the desk refuses what is none, the list of bots shows what follows; all of them mean the same times
because this is the only place that knows them.

**Boundaries.** An epoch multiple of the interval in UTC, plus the settling delay. The next one is computed
from the moment asked about, never from the one before: a clock that jumps by years costs neither memory
nor minutes, and what a late fire missed need not be listed, because the job reads its bot's cursor and
does every bar after it. Summer time does not exist here.

**Cron.** Read as cron(5) reads it, which is what people know, not as APScheduler's `from_crontab`: 0 and 7
are Sunday there and Monday in APScheduler; a day of the month and a weekday that are both restricted mean
either of them there and both of them in APScheduler. APScheduler's rules can only say "both". So such an
expression becomes two rules, by days of the month and by weekdays, and the earlier answer counts.

**Changes of the clock** are treated as in cron(8), which makes two kinds of rules too. A time of day is a
wish of people: it fires once a day, at the first of an hour that winter time repeats, shifted by the change
where summer time leaves it out. A rule for every hour or finer is a wish for a pace: it goes on in real
time through the change. The rules are therefore asked in wall time, as if it were UTC (APScheduler's own
arithmetic in a zone with summer time skips, doubles and for some expressions never comes back), and the
zone is applied to what they answer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from strategies.faults import Fault, InvalidConfig, shown
from strategies.values import interval_ms

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
ALLOWED: Final = (
    "five fields of cron (minute hour day month weekday), such as */5 * * * * or 0 9 * * mon-fri,"
    " with CRON_TZ=Europe/Berlin before them for another zone than UTC"
)
FIELDS: Final = 5
SUNDAY_AGAIN: Final = 7
MILLISECOND: Final = timedelta(milliseconds=1)
LONGEST_WAIT: Final = timedelta(days=366 * 9)  # 29 February: eight years around 1900 and 2100
ZONE_PREFIXES: Final = ("CRON_TZ=", "TZ=")
MOST_KEPT: Final = 4_096  # expressions that stay taken apart; to take one apart costs 0.3 ms


class InvalidSchedule(InvalidConfig):
    """A schedule that no bot can follow. Its one fault has the path `schedule`."""

    def __init__(self, found: str, allowed: str = ALLOWED) -> None:
        super().__init__((Fault("schedule", found, allowed),))


@dataclass(frozen=True, slots=True)
class Boundaries:
    """`settle_ms` after every close of `interval`. Raises ValueError for what is no interval."""

    interval: str
    settle_ms: int

    def __post_init__(self) -> None:
        interval_ms(self.interval)

    @property
    def length_ms(self) -> int:
        return interval_ms(self.interval)

    def next_ms(self, after_ms: int) -> int:
        """Return the first moment after `after_ms`."""
        length = self.length_ms
        return ((after_ms - self.settle_ms) // length + 1) * length + self.settle_ms

    def as_json(self) -> dict[str, str | int]:
        return {"interval": self.interval, "settle_ms": self.settle_ms}


@dataclass(frozen=True, slots=True)
class Cron:
    """`settle_ms` after the times of an expression of five fields. Raises InvalidSchedule.

    `CRON_TZ=Europe/Berlin 0 9 * * mon-fri` gives the time zone; without it the zone is UTC.
    """

    expression: str
    settle_ms: int

    def __post_init__(self) -> None:
        _rules(self.expression)

    def next_ms(self, after_ms: int) -> int:
        """Return the first moment after `after_ms`."""
        rules = _rules(self.expression)
        after = moment(after_ms - self.settle_ms)
        following = _in_real_time if rules.goes_on else _once_a_day
        found = min(following(rule, after, rules.zone) for rule in rules.calculators)
        return milliseconds(found) + self.settle_ms

    def as_json(self) -> dict[str, str | int]:
        return {"cron": self.expression, "settle_ms": self.settle_ms}


Schedule = Boundaries | Cron


def cron_of(text: str | None) -> str | None:
    """Return the expression that a row's schedule holds; nothing but blanks is none."""
    return (text or "").strip() or None


def schedule_for(interval: str, cron: str | None, settle_ms: int) -> Schedule:
    """Return the schedule of a row: its cron expression if it has one, else the bars' boundaries.

    Raises InvalidSchedule, and ValueError for what is no interval.
    """
    expression = cron_of(cron)
    return Boundaries(interval, settle_ms) if expression is None else Cron(expression, settle_ms)


def parse(found: object) -> Schedule:
    """Read a schedule as `as_json` wrote it. Raises InvalidSchedule."""
    match found:
        case {"interval": str(interval), "settle_ms": int(settle_ms), **rest} if not rest:
            try:
                return Boundaries(interval, settle_ms)
            except ValueError as exc:
                raise InvalidSchedule(str(exc), "an interval, such as 1m, 15m, 4h") from exc
        case {"cron": str(expression), "settle_ms": int(settle_ms), **rest} if not rest:
            return Cron(expression, settle_ms)
    raise InvalidSchedule(json.dumps(found, default=repr)[:80], "an interval or a cron, and settle_ms")


def moment(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def milliseconds(at: datetime) -> int:
    return (at - EPOCH) // MILLISECOND


@dataclass(frozen=True, slots=True)
class _Rules:
    """A cron expression taken apart: its zone, and one or two triggers of APScheduler that answer in UTC."""

    zone: Any
    goes_on: bool  # every hour or finer: in real time through changes of the clock
    calculators: tuple[Any, ...]


@lru_cache(MOST_KEPT)
def _rules(expression: str) -> _Rules:
    """Take an expression apart and prove that it fires at all. Raises InvalidSchedule."""
    # Late: 60 ms that a list of bots without a cron need not pay.
    from zoneinfo import ZoneInfo

    from apscheduler.triggers.cron import CronTrigger

    name, text = "UTC", expression.strip()
    for prefix in ZONE_PREFIXES:
        if text.startswith(prefix):
            name, _, text = text[len(prefix) :].partition(" ")
    fields = MACROS.get(text.strip().lower(), text).split()
    if len(fields) != FIELDS:
        raise InvalidSchedule(f"{shown(expression)}, which has {len(fields)} fields")
    minute, hour, day, month, weekday = fields
    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise InvalidSchedule(f"{shown(expression)}, where {name!r} is no known time zone") from exc
    try:
        calculators = tuple(
            CronTrigger(minute=minute, hour=hour, month=month.lower(), timezone=UTC, **days)
            for days in _day_rules(day, _weekdays(weekday))
        )
        for calculator in calculators:
            # 30 February never comes, which is found by asking within a bound. What comes once comes again,
            # so afterwards nothing has to bound the search, and nothing here changes again.
            calculator.end_date = EPOCH + LONGEST_WAIT
            _next_wall(calculator, EPOCH)
            calculator.end_date = None
    except (ValueError, TypeError) as exc:
        raise InvalidSchedule(f"{shown(expression)}: {exc}") from exc
    return _Rules(zone, hour.startswith("*"), calculators)


def _day_rules(day: str, weekdays: str) -> tuple[Mapping[str, str], ...]:
    """Return one rule, or two of which either suffices when day and weekday are both restricted."""
    if day.startswith("*") or weekdays == "*":
        return ({"day": day, "day_of_week": weekdays},)
    return {"day": day, "day_of_week": "*"}, {"day": "*", "day_of_week": weekdays}


def _weekdays(field: str) -> str:
    """Translate cron's weekdays (0 and 7 are Sunday) into APScheduler's names."""
    if field == "*":
        return "*"
    found = {number % 7 for item in field.split(",") for number in _weekday_item(item)}
    return ",".join(DAYS[number] for number in sorted(found))


def _weekday_item(item: str) -> range:
    body, _, step = item.partition("/")
    first, dash, last = body.partition("-")
    if body == "*":
        low, high = 0, 6
    else:
        low = _weekday(first)
        high = _weekday(last) if dash else low
        if dash and high == 0:
            high = SUNDAY_AGAIN  # sat-sun, fri-0: Sunday also ends the week
        if step and not dash:
            high = 6
    if step and not (step.isascii() and step.isdigit() and int(step) > 0):
        raise ValueError(f"step {step!r} of the weekday is not a whole number above 0")
    if low > high:
        raise ValueError(f"weekdays {item!r} run backwards")
    return range(low, high + 1, int(step or 1))


def _weekday(text: str) -> int:
    name = text.strip().lower()
    if name in DAYS:
        return DAYS.index(name)
    if name.isascii() and name.isdigit() and int(name) <= SUNDAY_AGAIN:
        return int(name)
    raise ValueError(f"weekday {text!r} is not one of 0 to 7 or {' '.join(DAYS)}")


def _once_a_day(calculator: Any, after: datetime, zone: Any) -> datetime:
    wall = after.astimezone(zone).replace(tzinfo=UTC, fold=0)
    while True:
        wall = _next_wall(calculator, wall)
        # Of a wall time that comes twice this is the first, and one that is left out moves by the change.
        found = wall.replace(tzinfo=zone).astimezone(UTC)
        if found > after:
            return found


def _in_real_time(calculator: Any, after: datetime, zone: Any) -> datetime:
    offset = _offset(after, zone)
    found = _next_wall(calculator, after + offset) - offset
    if _offset(found, zone) == offset:
        return found
    # The offset changes before that time, so the rule is asked once more, from the change on.
    change = _change(after, found, zone)
    offset = _offset(change, zone)
    return _next_wall(calculator, change + offset - MILLISECOND) - offset


def _change(low: datetime, high: datetime, zone: Any) -> datetime:
    """Return the moment (whole ms) between `low` and `high` from which the offset of `high` holds."""
    before, after = milliseconds(low), milliseconds(high)
    offset = _offset(high, zone)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if _offset(moment(middle), zone) == offset else (middle, after)
    return moment(after)


def _offset(at: datetime, zone: Any) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _next_wall(calculator: Any, after: datetime) -> datetime:
    found: datetime | None = calculator.get_next_fire_time(None, after + MILLISECOND)
    if found is None:
        raise ValueError("it never fires")
    return found
