"""Keep the jobs equal to the bots: `trading_bots` is the truth, `apscheduler_jobs` a cache of it.

Which bots have a job, and when it fires, is a function of their rows (`wish`, `admitted`). What
differs from the jobs that are there is written; nothing else is touched, also not rows of the jobs
table that belong to no bot. A row whose configuration cannot be read keeps the job it had: the bot
runs on under its last good configuration, and the job itself tells the owner why.

The order of a run is look, read, decide, write jobs, write statuses:
- the look is at (id, revision, status) of all rows, in one query, and only rows that changed are read. A
  row that changes after the look has a revision that the look did not see, and is read by the next one;
- jobs come before statuses: a status says what is so, and `running` is so once there is a job;
- what the run knows (`_jobs`) is replaced last, when both are written. A run that ends before (the database
  is lost there, and the service lives) has noted what the rows ask for and not applied all of it: the next
  one compares everything with everything, as if it began to lead, and tells its caller what is new to it.

Two directions, two methods. `run` carries changes of the bots into the jobs, and trusts that the jobs are
what it wrote last. `restore` distrusts the jobs: it reads them all and rewrites those that somebody edited
or removed, or that were written under another clock.

Nothing is remembered on disk, so a service that begins to lead compares everything with everything
(`begin`): another one may have led meanwhile.

| the process dies ... | the next run sees |
|---|---|
| before jobs are written | the same difference |
| after old jobs were dropped, before new ones are written | a smaller one |
| after jobs were written, before statuses are | statuses that differ from what follows from the rows |
| after a faulty row was charged | status `error`, which asks for no job |
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from jobs.alerts import name_of, owner_alert
from jobs.bar.charges import charge
from jobs.bar.failures import Failure, FailureKind, damage
from jobs.clock import Clock
from jobs.schedule import schedule_for
from jobs.settings import Settings
from persistence import bots, notifications
from persistence.bots import Bot
from persistence.database import Database
from persistence.ledger import steps
from scheduler.crew.alarm import Alarm
from scheduler.service.jobrow import JobRow
from scheduler.service.jobstore import BotJobStore
from strategies.config import parse_bot_config
from strategies.faults import InvalidConfig

MANY: Final = 50  # rows that changed at once, from which reading all of them is cheaper

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a bot's row asks for: a job, or none. `idle_status` is the status of a row that asks for none."""

    bot_id: int
    user_id: int
    revision: int
    status: str
    row: JobRow | None
    idle_status: str = "stopped"
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What one pass did, by bot id. `begun` are the bots that were not scheduled before."""

    begun: frozenset[int] = frozenset()
    moved: frozenset[int] = frozenset()
    ended: frozenset[int] = frozenset()


def wish(bot: Bot, settle_ms: int, last_good: JobRow | None) -> Wish:
    """Read what a row asks for. `last_good` is the job of its last configuration that could be read."""
    asked = Wish(bot.id, bot.user_id, bot.revision, bot.status, None)
    if bot.broken and bot.status != "error":
        return replace(asked, idle_status="error", fault=damage(bot).message)
    if not bot.enabled:
        return asked
    if bot.paused:
        return replace(asked, idle_status="paused")
    if bot.status == "error":
        return replace(asked, idle_status="error")
    try:
        return replace(asked, row=_job(bot.id, bot.config, bot.schedule, settle_ms))
    except InvalidConfig as exc:
        return replace(asked, row=last_good, idle_status="error", fault=str(exc))


def _job(bot_id: int, config: str, schedule: str | None, settle_ms: int) -> JobRow:
    data = parse_bot_config(config).data
    return JobRow(bot_id, schedule_for(data.interval, schedule, settle_ms), data.data_source)


def admitted(
    wishes: Iterable[Wish], most: int, most_per_user: int
) -> tuple[dict[int, JobRow], tuple[int, ...]]:
    """Return the jobs of the bots that may run, oldest bots first, and the ids of those above the limits."""
    jobs: dict[int, JobRow] = {}
    refused = []
    users: Counter[int] = Counter()
    for asked in sorted(wishes, key=lambda found: found.bot_id):
        if asked.row is None:
            continue
        if len(jobs) >= most or users[asked.user_id] >= most_per_user:
            refused.append(asked.bot_id)
            continue
        users[asked.user_id] += 1
        jobs[asked.bot_id] = asked.row
    return jobs, tuple(refused)


def _changes(before: Mapping[int, JobRow], after: Mapping[int, JobRow]) -> Changes:
    return Changes(
        begun=frozenset(after) - frozenset(before),
        moved=frozenset(bot_id for bot_id, row in after.items() if before.get(bot_id, row) != row),
        ended=frozenset(before) - frozenset(after),
    )


class Reconciliation:
    """What was seen and applied. The loop's thread calls everything here; others may read `jobs`."""

    def __init__(self, database: Database, store: BotJobStore, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._clock = clock
        self._wishes: dict[int, Wish] = {}  # what the rows asked for when they were last read
        self._jobs: dict[int, JobRow] = {}  # what the jobs table holds if nobody else wrote there
        self._told: Mapping[int, JobRow] = {}  # the jobs that the caller of `run` knows of
        self._refused: frozenset[int] = frozenset()  # bots above the limits that were reported
        self._begun = False  # whether `_jobs` was applied, or read in before this service led

    @property
    def jobs(self) -> Mapping[int, JobRow]:
        return self._jobs

    def begin(self) -> None:
        """Doubt what was applied: another service may have led meanwhile. Faults are found and told anew."""
        self._begun = False
        self._wishes = {bot_id: asked for bot_id, asked in self._wishes.items() if asked.fault is None}

    def warm(self) -> None:
        """Read the rows ahead while another service leads, so that a takeover has little to read."""
        with self._database.read() as connection:
            seen = bots.standing(connection, self._settings.service.user_id)
        self._read(seen, warming=True)

    def alarms(self) -> tuple[Alarm, ...]:
        """Return one fire for every bot that has a job: it does what its cursor says it owes."""
        now = self._clock.now_ms()
        return tuple(Alarm(row.bot_id, row.group, now) for row in self._jobs.values())

    def run(self) -> Changes:
        """Make the jobs table what the bots table asks for. Raises DatabaseUnavailable."""
        with self._database.read() as connection:
            seen = bots.standing(connection, self._settings.service.user_id)
        if not self._begun:
            # Jobs of other users' bots belong to their service. Without a user everything is ours,
            # also jobs of bots that are gone.
            self._store.make()
            stored = self._stored()
            if self._settings.service.user_id is not None:
                stored = {bot_id: found for bot_id, found in stored.items() if bot_id in seen}
            self._jobs = {bot_id: row for bot_id, (row, _) in stored.items()}
            at = {bot_id: due for bot_id, (_, due) in stored.items()}
        elif not self._differs(seen):
            return Changes()
        else:
            at = {}
        compared, self._begun = not self._begun, False
        self._read(seen)
        if compared:
            # Rows that were read ahead may have got another status from the service that led until now.
            self._wishes = {i: replace(asked, status=seen[i][1]) for i, asked in self._wishes.items()}
        service = self._settings.service
        jobs, refused = admitted(
            self._wishes.values(), service.max_concurrent_bots, service.max_bots_per_user
        )
        self._write(jobs, at)
        self._settle(jobs, frozenset(refused))
        told, self._jobs, self._told = self._told, jobs, jobs
        self._begun = True
        return _changes(told, jobs)

    def restore(self) -> int:
        """Rewrite jobs that somebody edited or removed in the jobs table itself; return how many."""
        now = self._clock.now_ms()
        self._store.make()
        stored = self._stored()
        lost = []
        for bot_id, row in self._jobs.items():
            found, at = stored.get(bot_id, (None, None))
            if found != row or at is None or at > row.trigger.next_ms(now):
                lost.append((row, row.trigger.next_ms(now)))
        self._store.put(lost)
        return len(lost)

    def _stored(self) -> dict[int, tuple[JobRow, int | None]]:
        return self._store.rows()[0]  # the claim tells of those that cannot be read

    def _differs(self, seen: Mapping[int, tuple[int, str]]) -> bool:
        return len(seen) != len(self._wishes) or any(
            bot_id not in self._wishes or self._changed(bot_id, found) for bot_id, found in seen.items()
        )

    def _changed(self, bot_id: int, found: tuple[int, str]) -> bool:
        known = self._wishes[bot_id]
        revision, status = found
        # Of the statuses only `error` asks for something: the others follow from what is asked.
        return known.revision != revision or (known.status == "error") != (status == "error")

    def _read(self, seen: Mapping[int, tuple[int, str]], *, warming: bool = False) -> None:
        """Read the rows that changed and forget those that are gone.

        While another service leads (`warming`) faults are left to it: charging a bot is writing.
        """
        self._wishes = {bot_id: found for bot_id, found in self._wishes.items() if bot_id in seen}
        fresh = [i for i, found in seen.items() if i not in self._wishes or self._changed(i, found)]
        with self._database.read() as connection:
            if len(fresh) > MANY:
                rows = bots.all_bots(connection, self._settings.service.user_id)
            else:
                rows = tuple(bot for bot_id in fresh if (bot := bots.get_bot(connection, bot_id)) is not None)
        for bot in rows:
            if not warming and self._added_disabled(bot):
                continue  # disabled now: its row is read once more, at the next look
            asked = wish(bot, self._settings.markets.settle_ms, self._jobs.get(bot.id))
            if asked.fault is not None:
                if warming:
                    continue
                asked = self._with_fault(bot, asked)
            self._wishes[bot.id] = asked

    def _added_disabled(self, bot: Bot) -> bool:
        """Disable a bot that plain SQL has added with `"enabled": false` in its configuration, as `add` does.

        Only a row that nobody has edited and that never ran: later the row's own column is what counts.
        """
        if not bot.enabled or bot.revision != 1 or bot.started_at is not None:
            return False
        try:
            if parse_bot_config(bot.config).enabled:
                return False
        except InvalidConfig:
            return False
        reason = "its configuration says enabled: false; jobs start enables it"
        with self._database.write() as connection:
            bots.edit_bot(connection, bot.id, {"enabled": False}, revision=bot.revision, reason=reason)
        log.info("bot was added disabled", bot=bot.id, why=reason)
        return True

    def _with_fault(self, bot: Bot, asked: Wish) -> Wish:
        """Keep a bot with a faulty row on its last good configuration, or stop it with the reason."""
        log.error("bot's row is not valid", bot=bot.id, why=asked.fault, runs_on=asked.row is not None)
        if (
            asked.row is None and not bot.broken
        ):  # this service has just begun, and what ran before is in the bot's state only
            asked = replace(asked, row=self._from_state(bot))
        if asked.row is None:
            failure = Failure(FailureKind.CONFIGURATION, asked.fault or "")
            charge(
                [(bot, failure)],
                self._database,
                self._settings.service,
                self._clock.now_ms(),
                self._store.fence,
            )
            asked = replace(asked, status="error")
        else:
            # The same key as the bar's own word on the configuration: whoever comes first says it, once.
            told = f"CONFIG_REFUSED: the edit was not applied, the bot runs on as before: {asked.fault}"
            alert = owner_alert(bot.id, f"config:{bot.revision}", name_of(bot), told, "config")
            with self._database.write() as connection:
                notifications.enqueue(connection, (alert,), now_ms=self._clock.now_ms())
        return asked

    def _from_state(self, bot: Bot) -> JobRow | None:
        """Return the job of the configuration that the bot's state was made with, if it has one."""
        with self._database.read() as connection:
            loaded = steps.load(connection, [bot.id])
        config = loaded[0].state_config if loaded else None
        if config is None:
            return None
        try:
            return _job(bot.id, config, None, self._settings.markets.settle_ms)
        except InvalidConfig:
            return None

    def _write(self, jobs: Mapping[int, JobRow], at: Mapping[int, int | None]) -> None:
        now = self._clock.now_ms()
        # `_jobs` is what the table holds as far as this service knows; unchanged rows are left alone, because
        # rewriting one would move its fire.
        needed = _changes(self._jobs, jobs)
        # A fire that lies further ahead than the row's next one was written under another clock.
        stale = {
            i for i, due in at.items() if i in jobs and (due is None or due > jobs[i].trigger.next_ms(now))
        }
        self._store.drop(sorted(needed.ended))
        self._store.put(
            (jobs[i], jobs[i].trigger.next_ms(now)) for i in sorted(needed.begun | needed.moved | stale)
        )
        for bot_id in sorted(needed.moved):
            log.info("schedule changed", bot=bot_id, fires=jobs[bot_id].trigger.as_json())

    def _settle(self, jobs: Mapping[int, JobRow], refused: frozenset[int]) -> None:
        """Write statuses that follow from what was decided, where they differ."""
        now = self._clock.now_ms()
        wrong: dict[str, list[int]] = {}
        for asked in self._wishes.values():
            status = "running" if asked.bot_id in jobs else "stopped" if asked.row else asked.idle_status
            if asked.status != status:
                wrong.setdefault(status, []).append(asked.bot_id)
        if refused - self._refused:
            log.error("bots above the limits do not run", bots=sorted(refused - self._refused))
        self._refused = refused
        if not wrong:
            return
        with self._database.write(self._store.fence) as connection:
            for status, bot_ids in wrong.items():
                reason = "above the limit of bots that may run" if refused.issuperset(bot_ids) else None
                bots.move_all(connection, bot_ids, status, now_ms=now, reason=reason)
        # After the commit. What the database refused to move (`MOVES`) is not asked for at every pass.
        for status, bot_ids in wrong.items():
            for bot_id in bot_ids:
                self._wishes[bot_id] = replace(self._wishes[bot_id], status=status)
