"""What a process needs to run bars, looked up once at the edge and handed down."""

import functools
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from jobs.bar.engines import EngineCache
from jobs.clock import Clock, SystemClock
from jobs.markets import Markets
from jobs.settings import Settings, load_settings
from persistence.database import Database, open_database
from persistence.leases import Fence
from strategies.registry import Registry

SLICE_S: Final = 0.05
LONGEST_S: Final = 0.25


def _unwatched(bot_id: int | None) -> None:
    del bot_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """`fence` is what a service with a lease puts on every write; a replay and SQLite need none.

    `watch` is told whose work begins (a bot id) and that nobody's is under way (None), so that a
    supervisor of this process knows whom to charge when it hangs or dies.
    `begin_at` (ms) is set by a replay: bots without a state begin there, and what people did to
    their rows since (pause, resume) does not suppress orders of the past.
    `most_bars` is how many bars of one bot may share a transaction when it has fallen behind, and
    `longest_s` after how long it lets the others go on and is fired again for the rest.
    `slice_s` is how long is decided before what was decided is committed. In a replay nobody waits.
    `buildable` names the engines that may be built here beside other bots' work; None is all of them.
    """

    settings: Settings
    database: Database
    markets: Markets
    engines: EngineCache
    clock: Clock
    fence: Fence | None = None
    watch: Callable[[int | None], None] = _unwatched
    begin_at: int | None = None
    most_bars: int = 250
    longest_s: float = LONGEST_S
    slice_s: float = SLICE_S
    buildable: Collection[str] | None = None


def open_runtime(
    settings: Settings,
    *,
    clock: Clock | None = None,
    fence: Fence | None = None,
    watch: Callable[[int | None], None] = _unwatched,
    begin_at: int | None = None,
) -> Runtime:
    database = open_database(settings.database.url)
    return Runtime(
        settings=settings,
        database=database,
        markets=Markets(settings.markets, database),
        engines=EngineCache(Registry(settings.strategies.plugins)),
        clock=clock or SystemClock(),
        fence=fence,
        watch=watch,
        begin_at=begin_at,
        longest_s=LONGEST_S if begin_at is None else math.inf,
        slice_s=SLICE_S if begin_at is None else math.inf,
    )


@functools.cache
def current() -> Runtime:
    """Return the runtime of a process that was given none: from scheduler.toml and the environment."""
    return open_runtime(load_settings())
