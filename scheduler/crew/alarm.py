"""What the service hands to the crew: whom to run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alarm:
    """A claimed fire: the bot, whose exchange it will call, and when it was due (ms)."""

    bot_id: int
    group: str
    due_ms: int
