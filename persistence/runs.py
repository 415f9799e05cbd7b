"""When services ran and how they ended: a run without an end was not ended cleanly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from persistence.transaction import Transaction, moment, ms_of, run


@dataclass(frozen=True, slots=True)
class Run:
    """`run` names it (host, pid, start); `role` is starting, leader, standby or stopping."""

    run: str
    host: str
    pid: int
    user_id: int | None
    role: str
    started_at: int
    heartbeat_at: int
    ended_at: int | None = None
    clean: bool | None = None
    details: str = "{}"


def begin_run(transaction: Transaction, begun: Run) -> None:
    run(
        transaction,
        "INSERT INTO service_runs (run, host, pid, user_id, role, started_at, heartbeat_at, details)"
        " VALUES (:run, :host, :pid, :user_id, :role, :started_at, :heartbeat_at, :details)",
        {
            "run": begun.run,
            "host": begun.host,
            "pid": begun.pid,
            "user_id": begun.user_id,
            "role": begun.role,
            "started_at": moment(transaction, begun.started_at),
            "heartbeat_at": moment(transaction, begun.heartbeat_at),
            "details": begun.details,
        },
    )


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
    """Return the newest runs, newest first."""
    started, seen, ended = (
        ms_of(name, transaction.dialect.name) for name in ("started_at", "heartbeat_at", "ended_at")
    )
    rows = run(
        transaction,
        f"SELECT run, host, pid, user_id, role, {started}, {seen}, {ended}, clean, details FROM service_runs"
        " ORDER BY started_at DESC, run DESC LIMIT :limit",
        {"limit": limit},
    )
    return tuple(_run_of(row) for row in rows)


def _run_of(row: Sequence[Any]) -> Run:
    values = list(row)
    values[8] = None if values[8] is None else bool(values[8])
    return Run(*values)
