"""APScheduler's job store, with rows that are data and alarms that are claimed before they ring.

A row of `apscheduler_jobs` is `(id, next_run_time in s since the epoch, job_state as JSON)`. It can
name one function and nothing is ever unpickled, imported or executed because a row says so. A row that
cannot be read is kept, reported and left to the reconciliation with `trading_bots`, of which this
table is a cache. For the same reason nobody writes jobs through APScheduler: those methods refuse.

**Claim, then hand over.** Due rows are claimed set-wise: one statement moves `next_run_time` of all of them
from the value that was read to the next fire (compare and swap), and only the rows that it returns are
handed to the crew. If another service claimed, paused or removed a row in between, the swap misses that
row and nothing is fired. The other order (stock's: submit, then update) runs a job twice if the process
dies in between, twice with two schedulers, and writes over a pause that came in between. Ours can lose a fire
instead, which costs no bar: the next fire reads the bot's cursor and does every bar since.

| the process dies ... | what the next one sees |
|---|---|
| before the claim commits | the rows are still due |
| after the claim, before the work is done | the fire is used up; the start fires every bot once |
| (it lives, but the answer of the commit is lost) | the same; the late bots are found by their cursors |

True between any two calls: a row that can be read is due, or fires at the next moment of its trigger and not
later, unless the clock was set back or somebody edited it; `Reconciliation.restore` looks for those.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

from apscheduler.job import Job
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from sqlalchemy import (
    Column,
    Float,
    MetaData,
    Table,
    Text,
    Unicode,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION

from jobs.schedule import moment
from persistence.database import Database
from scheduler.crew.alarm import Alarm
from scheduler.service.jobrow import FUNCTION, PREFIX, Claim, JobRow, UnreadableRow, parse_row
from scheduler.service.triggers import ScheduleTrigger

MOST_KEPT: Final = 50_000  # parsed rows that are remembered, so that an unchanged row is not parsed again

CLAIM: Final = {
    "postgresql": text(
        "WITH claimed AS (SELECT j.id, c.next FROM apscheduler_jobs AS j"
        " JOIN unnest(:ids, :dues, :nexts) AS c(id, due, next) ON j.id = c.id AND j.next_run_time = c.due"
        " ORDER BY j.id FOR UPDATE OF j SKIP LOCKED)"
        " UPDATE apscheduler_jobs AS j SET next_run_time = claimed.next FROM claimed WHERE j.id = claimed.id"
        " RETURNING j.id"
    ).bindparams(
        bindparam("ids", type_=ARRAY(Text)),
        bindparam("dues", type_=ARRAY(DOUBLE_PRECISION)),
        bindparam("nexts", type_=ARRAY(DOUBLE_PRECISION)),
    ),
    # Whole ms are compared: SQLite's reading of a decimal fraction may differ in the last bit.
    "sqlite": text(
        "UPDATE apscheduler_jobs SET next_run_time = json_extract(c.value, '$[2]') / 1000.0"
        " FROM json_each(:rows) AS c WHERE apscheduler_jobs.id = json_extract(c.value, '$[0]')"
        " AND CAST(round(next_run_time * 1000) AS INTEGER) = json_extract(c.value, '$[1]')"
        " RETURNING apscheduler_jobs.id"
    ),
}


class BotJobStore(SQLAlchemyJobStore):  # type: ignore[misc]  # APScheduler has no types
    """The store of one database. `user_id` limits what is claimed to the bots of one user."""

    def __init__(self, database: Database, *, user_id: int | None = None) -> None:
        super().__init__(engine=database.engine)
        self.database = database
        self.user_id = user_id
        # As stock's, but for a state that is text.
        self.jobs_t = Table(
            "apscheduler_jobs",
            MetaData(),
            Column("id", Unicode(191), primary_key=True),
            Column("next_run_time", Float(53), index=True),
            Column("job_state", Text, nullable=False),
        )
        self._all = select(self.jobs_t.c.id, self.jobs_t.c.next_run_time, self.jobs_t.c.job_state)
        self._parsed: dict[str, JobRow] = {}  # by the text of the row; an unchanged row is parsed once

    def start(self, scheduler: Any, alias: str) -> None:
        """Begin without touching the database: the table is made by the migrations."""
        self._scheduler = scheduler
        self._alias = alias

    def shutdown(self) -> None:
        """Leave the connections to the database's owner."""

    def claim_due(self, now_ms: int) -> Claim:
        """Move every due row to its next fire and return those that this call moved."""
        # Two transactions: the look holds no lock, and what changed since is caught by the swap.
        with self.database.read() as connection:
            due = connection.execute(self._due(now_ms / 1000)).all()
        rows, unreadable = self._readable(due)
        alarms: tuple[Alarm, ...] = ()
        if rows:
            moves = [(row.id, due_at, row.trigger.next_ms(now_ms)) for row, due_at in rows]
            moved = self._move(moves)
            alarms = tuple(
                Alarm(row.bot_id, row.group, round(due_at * 1000)) for row, due_at in rows if row.id in moved
            )
        return Claim(alarms, unreadable, self._next_ms(now_ms))

    def rows(self) -> tuple[dict[int, tuple[JobRow, int | None]], tuple[str, ...]]:
        """Return every readable row with its next fire (ms) by bot id, and the ids of the others."""
        with self.database.read() as connection:
            found = connection.execute(self._all).all()
        readable, unreadable = self._readable(found)
        fires = {row.bot_id: (row, None if at is None else round(at * 1000)) for row, at in readable}
        return fires, unreadable

    def put(self, rows: Iterable[tuple[JobRow, int]]) -> None:
        """Write rows with their next fires (ms), over what is there."""
        values = [{"id": row.id, "next_run_time": at / 1000, "job_state": row.state()} for row, at in rows]
        if not values:
            return
        with self.database.write() as connection:
            connection.execute(
                delete(self.jobs_t).where(self.jobs_t.c.id == bindparam("old")),
                [{"old": value["id"]} for value in values],
            )
            connection.execute(insert(self.jobs_t), values)

    def drop(self, bot_ids: Sequence[int]) -> None:
        if bot_ids:
            with self.database.write() as connection:
                connection.execute(
                    delete(self.jobs_t).where(self.jobs_t.c.id == bindparam("old")),
                    [{"old": f"{PREFIX}{bot_id}"} for bot_id in bot_ids],
                )

    # What APScheduler itself asks of a store. Bulk work goes through the methods above.

    def lookup_job(self, job_id: str) -> Job | None:
        jobs = self._jobs(self.jobs_t.c.id == job_id)
        return jobs[0] if jobs else None

    def get_due_jobs(self, now: datetime) -> list[Job]:
        return self._jobs(self.jobs_t.c.next_run_time <= now.timestamp())

    def get_all_jobs(self) -> list[Job]:
        jobs = self._jobs()
        self._fix_paused_jobs_sorting(jobs)
        return jobs

    def get_next_run_time(self) -> datetime | None:
        found = self._next_ms(None)
        return None if found is None else moment(found)

    def add_job(self, job: Job) -> NoReturn:
        raise NotImplementedError(f"{job}: jobs follow trading_bots; edit the bot's row")

    update_job = remove_job = add_job

    def remove_all_jobs(self) -> NoReturn:
        self.add_job("all jobs")

    def _due(self, now_s: float) -> Any:
        found = self._all.where(self.jobs_t.c.next_run_time <= now_s)
        if self.user_id is not None:
            mine = text("id IN (SELECT 'bot:' || id FROM trading_bots WHERE user_id = :user)")
            found = found.where(mine.bindparams(user=self.user_id))
        return found

    def _readable(self, found: Iterable[Any]) -> tuple[list[tuple[JobRow, Any]], tuple[str, ...]]:
        rows, unreadable = [], []
        if len(self._parsed) > MOST_KEPT:  # bots that are gone; what is there is parsed once more
            self._parsed.clear()
        for job_id, at, state in found:
            # SQLite puts a blob into a column of text if it is given one; it is unreadable and no error.
            row = self._parsed.get(state) if isinstance(state, str) else None
            if row is None or row.id != job_id:
                try:
                    row = self._parsed[state] = parse_row(job_id, state)
                except UnreadableRow as exc:
                    unreadable.append(str(exc))
                    continue
            rows.append((row, at))
        return rows, tuple(unreadable)

    def _move(self, moves: Sequence[tuple[str, float, int]]) -> frozenset[str]:
        dialect = self.database.dialect
        values: Mapping[str, object]
        if dialect == "postgresql":
            values = {
                "ids": [job_id for job_id, _, _ in moves],
                "dues": [due_at for _, due_at, _ in moves],
                "nexts": [next_ms / 1000 for _, _, next_ms in moves],
            }
        else:
            values = {"rows": json.dumps([(i, round(due_at * 1000), after) for i, due_at, after in moves])}
        with self.database.write() as connection:
            return frozenset(connection.execute(CLAIM[dialect], values).scalars())

    def _next_ms(self, after_ms: int | None) -> int | None:
        """Return the earliest fire, looking past rows that stay due because nobody can read them."""
        earliest = select(func.min(self.jobs_t.c.next_run_time))
        if after_ms is not None:
            earliest = earliest.where(self.jobs_t.c.next_run_time > after_ms / 1000)
        with self.database.read() as connection:
            found = connection.execute(earliest).scalar()
        return None if found is None else round(found * 1000)

    def _jobs(self, *conditions: Any) -> list[Job]:
        found = self._all.order_by(self.jobs_t.c.next_run_time).where(*conditions)
        with self.database.read() as connection:
            rows, unreadable = self._readable(connection.execute(found).all())
        for problem in unreadable:
            self._logger.error("Kept a job that cannot be read: %s", problem)
        return [self._job(row, at) for row, at in rows]

    def _job(self, row: JobRow, at: float | None) -> Job:
        job = Job.__new__(Job)
        job.__setstate__(
            {
                "version": 1,
                "id": row.id,
                "func": FUNCTION,
                "trigger": ScheduleTrigger(row.trigger),
                "executor": row.group,
                "args": (row.bot_id,),
                "kwargs": {},
                "name": row.id,
                "misfire_grace_time": None,  # lateness is judged by the job, from its cursor
                "coalesce": True,
                "max_instances": 1,
                "next_run_time": None if at is None else moment(round(at * 1000)),
            }
        )
        job._scheduler = self._scheduler  # noqa: SLF001  # as the store that this one replaces does
        job._jobstore_alias = self._alias  # noqa: SLF001
        return job
