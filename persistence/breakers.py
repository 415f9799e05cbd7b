"""The owner of `breakers`: which exchange is left alone, by all workers and across restarts."""

from dataclasses import dataclass

from persistence.transaction import Transaction, run


@dataclass(frozen=True, slots=True)
class BreakerRow:
    """Times in ms: opened at this moment, for so long."""

    failures: int
    opened_at: int
    open_for: int
    reason: str


def read_breaker(transaction: Transaction, name: str) -> BreakerRow | None:
    row = run(
        transaction,
        "SELECT failures, opened_at, open_for, reason FROM breakers WHERE name = :name",
        {"name": name},
    ).first()
    return None if row is None else BreakerRow(int(row[0]), int(row[1]), int(row[2]), str(row[3]))


def write_breaker(transaction: Transaction, name: str, breaker: BreakerRow) -> None:
    """Insert or replace: the last failure or success that was seen counts."""
    run(
        transaction,
        "INSERT INTO breakers (name, failures, opened_at, open_for, reason)"
        " VALUES (:name, :failures, :opened_at, :open_for, :reason)"
        " ON CONFLICT (name) DO UPDATE SET failures = excluded.failures, opened_at = excluded.opened_at,"
        " open_for = excluded.open_for, reason = excluded.reason",
        {
            "name": name,
            "failures": breaker.failures,
            "opened_at": breaker.opened_at,
            "open_for": breaker.open_for,
            "reason": breaker.reason,
        },
    )
