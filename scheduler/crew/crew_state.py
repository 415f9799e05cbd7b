"""What the crew of workers tells others: whom to charge, and how it is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Charge:
    """A bot whose bars hung or killed a worker, to be written into its row."""

    bot_id: int
    message: str


@dataclass(frozen=True, slots=True)
class CrewState:
    """A moment of the crew, for health and status. `waits_s` is how long the oldest bot has waited."""

    workers: int
    ready: int
    busy: int
    waiting: int
    running: int
    waits_s: float
    bars: int
    failures: int
    replaced: int
    pids: tuple[int, ...]
