"""When a bot's job fires: at its bar boundaries, or by a cron expression of its row.

A boundary is an epoch multiple of the interval in UTC plus the settling delay. The next one is
arithmetic, so that a clock that jumps by years costs neither memory nor minutes; what a late fire
missed is not listed, because the job reads its bot's cursor and does every bar after it.

Cron expressions are read as cron(5) reads them, not as APScheduler's `from_crontab`: 0 and 7 are
Sunday there and Monday in APScheduler, and days of month and week that are both restricted mean
either of them there and both of them in APScheduler.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

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
FIELDS: Final = 5
SUNDAY_AGAIN: Final = 7
HOUR: Final = CronTrigger.FIELD_NAMES.index("hour")
MILLISECOND: Final = timedelta(milliseconds=1)
LONGEST_WAIT: Final = timedelta(days=366 * 9)  # 29 February: eight years around 1900 and 2100
ZONE_PREFIXES: Final = ("CRON_TZ=", "TZ=")


class InvalidSchedule(ValueError):
    """A cron expression or stored trigger that cannot be followed: what was found, what is allowed."""


class Trigger(Protocol):
    """What the job store asks of a trigger."""

    def next_ms(self, after_ms: int) -> int: ...
    def as_json(self) -> dict[str, str | int]: ...


def moment(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def milliseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


class _Fires(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """A trigger that is a value: two that fire alike are equal."""

    __slots__ = ()

    def next_ms(self, after_ms: int) -> int:
        raise NotImplementedError

    def as_json(self) -> dict[str, str | int]:
        raise NotImplementedError

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Answer APScheduler. Fires that were missed between `previous_fire_time` and `now` are one fire."""
        first = milliseconds(now) - 1
        after = first if previous_fire_time is None else milliseconds(max(previous_fire_time, now))
        return moment(self.next_ms(after))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fires) and self.as_json() == other.as_json()

    def __hash__(self) -> int:
        return hash(tuple(self.as_json().items()))


class BarTrigger(_Fires):
    """Fires `settle_ms` after every close of `interval`."""

    __slots__ = ("interval", "length_ms", "settle_ms")

    def __init__(self, interval: str, settle_ms: int) -> None:
        self.interval = interval
        self.length_ms = interval_ms(interval)
        self.settle_ms = settle_ms

    def next_ms(self, after_ms: int) -> int:
        """Return the first fire after `after_ms`."""
        return ((after_ms - self.settle_ms) // self.length_ms + 1) * self.length_ms + self.settle_ms

    def as_json(self) -> dict[str, str | int]:
        return {"interval": self.interval, "settle_ms": self.settle_ms}


class CronSchedule(_Fires):
    """Fires `settle_ms` after the times of a cron expression of five fields.

    `CRON_TZ=Europe/Berlin 0 9 * * mon-fri` gives the time zone; without it the zone is UTC. A local
    time that a change to summer time leaves out fires at the next that exists; one that the change
    back repeats fires once.
    """

    __slots__ = ("_rules", "expression", "settle_ms", "zone")

    def __init__(self, expression: str, settle_ms: int) -> None:
        self.expression = expression
        self.settle_ms = settle_ms
        self.zone, fields = _split(expression)
        self._rules = _rules(fields, self.zone)

    def next_ms(self, after_ms: int) -> int:
        """Return the first fire after `after_ms`."""
        after = after_ms - self.settle_ms
        return min(_next_of(rule, after, self.zone) for rule in self._rules) + self.settle_ms

    def as_json(self) -> dict[str, str | int]:
        return {"cron": self.expression, "settle_ms": self.settle_ms}


def parse_trigger(found: object) -> BarTrigger | CronSchedule:
    """Read a trigger as `as_json` wrote it. Raises InvalidSchedule."""
    match found:
        case {"interval": str(interval), "settle_ms": int(settle_ms), **rest} if not rest:
            try:
                return BarTrigger(interval, settle_ms)
            except ValueError as exc:
                raise InvalidSchedule(str(exc)) from exc
        case {"cron": str(expression), "settle_ms": int(settle_ms), **rest} if not rest:
            return CronSchedule(expression, settle_ms)
    raise InvalidSchedule(f"trigger {json.dumps(found, default=repr)[:80]} is neither an interval nor a cron")


def trigger_for(interval: str, schedule: str | None, settle_ms: int) -> BarTrigger | CronSchedule:
    """Return when a bot's job fires: by the cron of its row if it has one, else at its bar boundaries."""
    if schedule is not None and schedule.strip():
        return CronSchedule(schedule.strip(), settle_ms)
    return BarTrigger(interval, settle_ms)


def _split(expression: str) -> tuple[ZoneInfo, tuple[str, str, str, str, str]]:
    """Take the zone and the five fields apart, and check that the zone exists."""
    zone, text = "UTC", expression.strip()
    for prefix in ZONE_PREFIXES:
        if text.startswith(prefix):
            zone, _, text = text[len(prefix) :].partition(" ")
    fields = MACROS.get(text.strip().lower(), text).split()
    if len(fields) != FIELDS:
        raise InvalidSchedule(
            f"cron {expression!r} has {len(fields)} fields, allowed: minute hour day month weekday,"
            " such as */5 * * * * or CRON_TZ=Europe/Berlin 0 9 * * mon-fri"
        )
    try:
        minute, hour, day, month, weekday = fields
        return ZoneInfo(zone), (minute, hour, day, month, weekday)
    except (KeyError, ValueError, OSError) as exc:
        raise InvalidSchedule(f"cron {expression!r} names no known time zone: {zone!r}") from exc


def _rules(fields: tuple[str, str, str, str, str], zone: ZoneInfo) -> tuple[CronTrigger, ...]:
    minute, hour, day, month, weekday = fields
    try:
        rules = tuple(
            # In UTC, because APScheduler's own arithmetic in a zone with summer time skips, doubles and
            # for some expressions never comes back; the zone is applied to what these answer.
            CronTrigger(minute=minute, hour=hour, month=month.lower(), timezone=UTC, **on)
            for on in _day_rules(day, _weekdays(weekday))
        )
        for rule in rules:  # 30 February never comes: found by asking
            _next_of(rule, 0, zone)
    except (ValueError, TypeError) as exc:
        raise InvalidSchedule(f"cron {' '.join(fields)!r}: {exc}") from exc
    return rules


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


def _next_of(rule: CronTrigger, after_ms: int, zone: ZoneInfo) -> int:
    """Return the first time of `rule` after `after_ms`, as cron(8) treats changes of the clock.

    A rule for every hour or finer goes on through the change in real time. A rule for a time of day
    fires once on each day: at the first of a repeated time, shifted by the change if it is left out.
    """
    after = moment(after_ms)
    if str(rule.fields[HOUR]).startswith("*"):
        return milliseconds(_in_real_time(rule, after, zone))
    wall = after.astimezone(zone).replace(tzinfo=UTC, fold=0)
    while True:
        wall = _next_wall(rule, wall)
        found = wall.replace(tzinfo=zone).astimezone(UTC)
        if found > after:
            return milliseconds(found)


def _in_real_time(rule: CronTrigger, after: datetime, zone: ZoneInfo) -> datetime:
    offset = _offset(after, zone)
    found = _next_wall(rule, after + offset) - offset
    if _offset(found, zone) == offset:
        return found
    change = _change(after, found, zone)
    offset = _offset(change, zone)
    return _next_wall(rule, change + offset - MILLISECOND) - offset


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment (whole ms) between `low` and `high` from which the offset of `high` holds."""
    before, after = milliseconds(low), milliseconds(high)
    offset = _offset(high, zone)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if _offset(moment(middle), zone) == offset else (middle, after)
    return moment(after)


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _next_wall(rule: CronTrigger, after: datetime) -> datetime:
    rule.end_date = after + LONGEST_WAIT
    found: datetime | None = rule.get_next_fire_time(None, after + MILLISECOND)
    if found is None:
        raise InvalidSchedule(f"{rule} never fires")
    return found
