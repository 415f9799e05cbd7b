"""When services ran and how they ended: a run without an end was not ended cleanly."""

from dataclasses import dataclass
from typing import Final

from persistence.columns import LAST_MOMENT, MOMENT, Moment, Small, Table, read_sound_rows, selected
from persistence.setwise import insert
from persistence.transaction import Transaction, moment, run


@dataclass(frozen=True, slots=True)
class Run:
    """`run` names it (host, pid, start); `role` is starting, leader or standby."""

    run: str
    host: str
    pid: Small
    user_id: int | None
    role: str
    started_at: Moment
    heartbeat_at: Moment
    ended_at: Moment | None = None
    clean: bool | None = None
    details: str = "{}"


RUNS: Final = Table("service_runs", Run, key=("run",))


def begin_run(transaction: Transaction, begun: Run) -> None:
    insert(transaction, RUNS, [begun])


def beat_run(transaction: Transaction, name: str, *, now_ms: int, role: str, details: str) -> None:
    run(
        transaction,
        "UPDATE service_runs SET heartbeat_at = :now, role = :role, details = :details WHERE run = :run",
        {"now": moment(transaction, now_ms), "role": role, "details": details, "run": name},
    )


def end_run(transaction: Transaction, name: str, *, now_ms: int, clean: bool) -> None:
    run(
        transaction,
        "UPDATE service_runs SET ended_at = :now, clean = :clean WHERE run = :run AND ended_at IS NULL",
        {"now": moment(transaction, now_ms), "clean": clean, "run": name},
    )


FRESH_MS: Final = 10_000  # a run that has said nothing for longer is not believed to run


def is_alive(run_: Run, now_ms: int) -> bool:
    """Whether a run has not ended and has spoken lately: silence is no sign of life."""
    return run_.ended_at is None and now_ms - run_.heartbeat_at < FRESH_MS


def latest_runs(transaction: Transaction, limit: int = 10) -> tuple[Run, ...]:
    """Return the newest runs, newest first, without rows that no service has written."""
    dialect = transaction.dialect.name
    begun = MOMENT.selected("r.started_at", dialect)
    # Left out before it is counted: text sorts behind all times.
    sound = f"{begun} BETWEEN 0 AND {LAST_MOMENT}"
    rows = run(
        transaction,
        f"SELECT {selected(Run, dialect, 'r')} FROM service_runs r WHERE {sound}"
        f" ORDER BY {begun} DESC, r.run DESC LIMIT :limit",
        {"limit": limit},
    )
    return read_sound_rows(rows, Run)
