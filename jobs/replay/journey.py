"""A replay: the jobs of the service, driven by a simulated clock over recorded bars.

Nothing here steps a bot or writes a row: `jobs.bar.firing.run_bars` does, by the same path and in the same
transactions as in the service. This file only says what time it is and whose bar has closed. So what a
replay shows is what the service does, and a fault that only one of them has would be in the clock.

Where a bot begins: one without a state is first fired at `--from`, which steps its lookback bars
with orders refused; one with a state goes on behind its cursor, whatever `--from` says. From there
it is fired at the close of every bar that its series has, until `--to`.

True between any two boundaries: a bot that still has a way to go stands in the agenda exactly once, at the
moment of its next bar's close, and the clock is behind that moment. All bots of one moment are fired before
any of the next, as in the service, where they share a boundary. A bot is put back only after its whole
boundary: put back before, a batch of the same moment could fire it again.

Nobody else may step these bots meanwhile: a service would go on from the replay's cursors with all bars up to
today. It is looked for once, at the beginning (`ServiceRuns`); one that is started later meets the
versions of the states, and both of them stay right bar by bar.

| the process dies ... | what the same command does next |
|---|---|
| before a batch is committed | fires that boundary again: the cursors have not moved |
| after it | begins at the next boundary of every bot |
| while lookback bars are stepped, 250 in a transaction | goes on behind the cursor, orders still refused |

Nothing of a replay is kept anywhere but in the bots' own rows, so there is nothing to resume from
that could disagree with them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from jobs.bar.due import may_run
from jobs.bar.firing import Outcome, run_bars
from jobs.bar.runtime import Runtime, open_runtime
from jobs.clock import SimulatedClock, SystemClock
from jobs.markets import MarketRefused, MarketUnavailable, Series
from jobs.replay.agenda import Agenda, Calendar
from jobs.settings import Settings
from persistence import runs, schema
from persistence.bots import Bot, all_bots
from persistence.database import Database
from persistence.database_errors import NoSuchBot
from persistence.ledger.advance import Loaded
from persistence.ledger.steps import count_trades, load
from persistence.runs import Run
from strategies.faults import InvalidConfig
from strategies.values import interval_ms

# Waits between attempts while an exchange does not answer, s; then its bots are given up.
PATIENCE_S: Final = (1, 2, 4, 8)

Share = Callable[[], float]  # 0 to 1


class NothingToReplay(Exception):
    """There is no bot that runs among those that were asked for."""


class ServiceRuns(Exception):
    """A service steps these bots: it would go on from the replay's cursors with all bars up to today."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"a service runs here, pid {run.pid} on {run.host}: stop it first")


class Onlooker(Protocol):
    """Who follows a replay: a terminal, a log, a test."""

    def progress(self, done: Share, moment: int, bars: int) -> None:
        """Take notice that `done()` of the way is behind us at `moment` (ms), with `bars` committed.

        Called at every boundary; `done` costs a walk over all bots, so it is for those that show it.
        """

    def remark(self, text: str) -> None:
        """Take notice of something that a person should know, once."""


@dataclass(slots=True)
class Course:
    """One bot on its way from `start` (ms); `at` is the open time of the bar it was last fired for.

    `calendar` is None if the configuration is broken: run_bars says so, charges it, and that was it.
    """

    bot_id: int
    start: int
    at: int
    length: int
    calendar: Calendar | None


@dataclass(slots=True)
class Tally:
    """What happened so far. `failures` has the last one of every bot that did not recover from it."""

    bars: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    interrupted: bool = False


@dataclass(slots=True, kw_only=True)
class Journey:
    """One run of the command. `end` is the last moment (ms) at which a bar may close."""

    rt: Runtime
    clock: SimulatedClock
    end: int
    onlooker: Onlooker
    tally: Tally
    courses: dict[int, Course] = field(default_factory=dict)
    agenda: Agenda = field(default_factory=Agenda)


@dataclass(frozen=True, slots=True)
class Report:
    """What a replay did. `stopped_at` (ms) is set if it was interrupted; the same call goes on from there."""

    bots: int
    bars: int
    trades: int
    seconds: float
    failures: Mapping[int, str]
    stopped_at: int | None = None


def replay(
    settings: Settings, begin: int, end: int, only: Sequence[int] | None, onlooker: Onlooker, tally: Tally
) -> Report:
    """Replay from `begin` to `end` (ms). Setting `tally.interrupted` ends it after the batch under way.

    Raises SchemaUnfit, ServiceRuns, NoSuchBot, NothingToReplay, DatabaseUnavailable and CommitUnknown;
    after the last two the same call goes on from the cursors.
    """
    schema.require(settings.database.url)
    clock = SimulatedClock(begin)
    rt = open_runtime(settings, clock=clock, begin_at=begin)
    began = time.perf_counter()
    try:
        _expect_nobody(rt.database)
        journey = _prepared(rt, clock, begin, end, only, onlooker, tally)
        _travel(journey)
        with rt.database.read() as connection:
            trades = sum(count_trades(connection, journey.courses).values())
    finally:
        rt.database.close()
    return Report(
        bots=len(journey.courses),
        bars=tally.bars,
        trades=trades,
        seconds=time.perf_counter() - began,
        failures=dict(sorted(tally.failures.items())),
        stopped_at=clock.at_ms if tally.interrupted else None,
    )


def _expect_nobody(database: Database) -> None:
    now = SystemClock().now_ms()  # a service goes by real time, whatever the replay shows
    with database.read() as connection:
        for run in runs.latest_runs(connection, 20):
            if runs.is_alive(run, now):
                raise ServiceRuns(run)


def _prepared(
    rt: Runtime,
    clock: SimulatedClock,
    begin: int,
    end: int,
    only: Sequence[int] | None,
    onlooker: Onlooker,
    tally: Tally,
) -> Journey:
    journey = Journey(rt=rt, clock=clock, end=end, onlooker=onlooker, tally=tally)
    calendars: dict[Series, Calendar] = {}
    settle = rt.settings.markets.settle_ms
    for loaded in _chosen(rt, only, onlooker):
        course = _course(loaded, rt, calendars, begin, end)
        journey.courses[course.bot_id] = course
        if loaded.last_bar is None or course.calendar is None:
            journey.agenda.put(begin + settle, course.bot_id)
        else:
            _put_next(journey, course)
    return journey


def _chosen(rt: Runtime, only: Sequence[int] | None, onlooker: Onlooker) -> tuple[Loaded, ...]:
    """Return the bots that a replay steps. Those that people have stopped stay stopped."""
    with rt.database.read() as connection:
        bots = {bot.id: bot for bot in all_bots(connection, rt.settings.service.user_id)}
        unknown = sorted(set(only or ()) - set(bots))
        if unknown:
            raise NoSuchBot(*unknown)
        chosen = [bot.id for bot in bots.values() if may_run(bot) and (only is None or bot.id in only)]
        for bot_id in sorted(set(only or bots) - set(chosen)):
            onlooker.remark(f"bot {bot_id} is left out: it is {_idle_word(bots[bot_id])}")
        if not chosen:
            raise NothingToReplay("there is no bot to replay")
        return load(connection, chosen)


def _idle_word(bot: Bot) -> str:
    if not bot.enabled:
        return "disabled"
    return "paused" if bot.paused else f"in state {bot.status} (jobs resume {bot.id})"


def _course(loaded: Loaded, rt: Runtime, calendars: dict[Series, Calendar], begin: int, end: int) -> Course:
    bot_id = loaded.bot.id
    try:
        config = rt.engines.config(loaded.state_config or loaded.bot.config)
        series = rt.markets.series(config.symbol, config.data)
    except (InvalidConfig, MarketRefused):
        return Course(bot_id, begin, begin, 1, None)
    length = interval_ms(config.data.interval)
    calendar = calendars.setdefault(series, Calendar(series, rt.markets, end))
    before = begin - begin % length - length  # the last bar that has closed at `begin`
    at = before if loaded.last_bar is None else loaded.last_bar
    return Course(bot_id, min(at, end), at, length, calendar)


def _travel(journey: Journey) -> None:
    batch = journey.rt.settings.workers.batch
    while not journey.tally.interrupted and (due := journey.agenda.pop()) is not None:
        moment, bot_ids = due
        journey.clock.at_ms = moment
        for first in range(0, len(bot_ids), batch):
            _fire(journey, bot_ids[first : first + batch])
        for bot_id in bot_ids:  # only now: see the theory above
            if journey.courses[bot_id].calendar is not None:
                _put_next(journey, journey.courses[bot_id])
        boundary = moment - journey.rt.settings.markets.settle_ms
        journey.onlooker.progress(partial(_done, journey, boundary), boundary, journey.tally.bars)


def _fire(journey: Journey, bot_ids: Sequence[int]) -> None:
    """Run a batch until nobody in it is behind: lookback bars take more than one transaction."""
    waiting = list(bot_ids)
    while waiting and not journey.tally.interrupted:
        outcomes = run_bars(waiting, journey.rt)
        for outcome in outcomes:
            _count(journey, outcome)
        waiting = [outcome.bot_id for outcome in outcomes if outcome.behind and outcome.failure is None]


def _count(journey: Journey, outcome: Outcome) -> None:
    journey.tally.bars += outcome.bars
    if outcome.failure is not None:
        journey.tally.failures[outcome.bot_id] = f"{outcome.failure.kind}: {outcome.failure.message}"
        if outcome.failure.retry_at_ms is None:
            journey.courses[outcome.bot_id].calendar = None
    elif outcome.bars:
        journey.tally.failures.pop(outcome.bot_id, None)


def _put_next(journey: Journey, course: Course) -> None:
    try:
        following = _after(course, journey.onlooker)
    except (MarketRefused, MarketUnavailable) as exc:
        journey.tally.failures[course.bot_id] = str(exc)
        course.calendar = None
        # Fired once more, so that the bot's row says why it does not go on.
        following = course.at + course.length
    if following is not None:
        course.at = following
        settle = journey.rt.settings.markets.settle_ms
        journey.agenda.put(following + course.length + settle, course.bot_id)


def _after(course: Course, onlooker: Onlooker) -> int | None:
    if course.calendar is None:
        return None
    for wait in PATIENCE_S:
        try:
            return course.calendar.after(course.at)
        except MarketUnavailable as exc:
            onlooker.remark(f"{exc}; asking again in {wait} s")
            time.sleep(wait)
    return course.calendar.after(course.at)


def _done(journey: Journey, moment: int) -> float:
    """Return the share of the way that is behind us, by time and weighed by bars."""
    total = past = 0.0
    for course in journey.courses.values():
        total += (journey.end - course.start) / course.length
        past += (min(moment, journey.end) - min(course.start, moment)) / course.length
    return past / total if total else 1.0
