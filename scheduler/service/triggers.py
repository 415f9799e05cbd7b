"""A schedule in the shape that APScheduler asks for."""

from datetime import datetime

from apscheduler.triggers.base import BaseTrigger

from jobs.schedule import Schedule, milliseconds, moment


class ScheduleTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Asks `schedule` and nothing else. Fires that were missed between two looks are one fire."""

    __slots__ = ("schedule",)

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        first = milliseconds(now) - 1
        after = first if previous_fire_time is None else milliseconds(max(previous_fire_time, now))
        return moment(self.schedule.next_ms(after))
