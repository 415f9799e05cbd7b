"""The right to schedule: one row per name, with an epoch, by the database's clock.

Every write of a step carries the epoch it was begun under (`Fence`), in its own transaction:
`assert_held` locks the row against a takeover until that transaction ends, so nothing is ever
written under an epoch that is over. The holder's renewals are not held up, because they leave the
key (name, epoch) alone. A holder that sleeps in the middle of a transaction loses it after the
server's idle limit, before a standby would give up.
"""

from dataclasses import dataclass

from persistence.database_errors import LeaseLost
from persistence.transaction import Transaction, is_sqlite, now_ms_sql, run

__all__ = ["Fence", "Lease", "LeaseLost", "acquire", "assert_held", "read_lease", "release", "renew"]


@dataclass(frozen=True, slots=True)
class Lease:
    """`until` in ms by the database's clock; `epoch` grows with every acquisition."""

    name: str
    holder: str
    epoch: int
    until: int


@dataclass(frozen=True, slots=True)
class Fence:
    """The epoch that a write was begun under."""

    name: str
    epoch: int


def acquire(
    transaction: Transaction, name: str, holder: str, ttl_ms: int, *, take: bool = False
) -> Lease | None:
    """Take the lease if it is free, over, or `holder`'s own; return None if another one has it.

    `take` takes it from whoever has it: only for a caller who knows that the holder is dead.
    """
    now = now_ms_sql(transaction.dialect.name)
    over = "" if take else f" AND (until <= {now} OR holder = :holder)"
    parameters = {"name": name, "holder": holder, "ttl": ttl_ms}
    # DO UPDATE would watch one unique index only: of two who are the first at the same moment, PostgreSQL
    # can fail the later one on the other, (name, epoch). DO NOTHING watches both.
    row = run(
        transaction,
        f"INSERT INTO leases (name, holder, epoch, until) VALUES (:name, :holder, 1, {now} + :ttl)"
        " ON CONFLICT DO NOTHING RETURNING name, holder, epoch, until",
        parameters,
    ).first()
    row = (
        row
        or run(
            transaction,
            f"UPDATE leases SET holder = :holder, epoch = epoch + 1, until = {now} + :ttl"
            f" WHERE name = :name{over} RETURNING name, holder, epoch, until",
            parameters,
        ).first()
    )
    return None if row is None else Lease(*row)


def renew(transaction: Transaction, lease: Lease, ttl_ms: int) -> Lease:
    """Extend the lease, also one that is over but that nobody took. Raises LeaseLost."""
    now = now_ms_sql(transaction.dialect.name)
    row = run(
        transaction,
        f"UPDATE leases SET until = {now} + :ttl WHERE name = :name AND holder = :holder AND epoch = :epoch"
        " RETURNING name, holder, epoch, until",
        {"name": lease.name, "holder": lease.holder, "epoch": lease.epoch, "ttl": ttl_ms},
    ).first()
    if row is None:
        raise LeaseLost(f"lease {lease.name} is not held under epoch {lease.epoch} any more")
    return Lease(*row)


def release(transaction: Transaction, lease: Lease) -> None:
    """Let others acquire it at once. Does nothing if it was taken already."""
    run(
        transaction,
        "UPDATE leases SET until = 0 WHERE name = :name AND holder = :holder AND epoch = :epoch",
        {"name": lease.name, "holder": lease.holder, "epoch": lease.epoch},
    )


def read_lease(transaction: Transaction, name: str) -> Lease | None:
    row = run(
        transaction, "SELECT name, holder, epoch, until FROM leases WHERE name = :name", {"name": name}
    ).first()
    return None if row is None else Lease(*row)


def assert_held(transaction: Transaction, fence: Fence) -> None:
    """Hold off a takeover until this transaction ends. Raises LeaseLost if there was one."""
    locking = "" if is_sqlite(transaction) else " FOR KEY SHARE"
    row = run(
        transaction,
        "SELECT epoch FROM leases WHERE name = :name AND epoch = :epoch" + locking,
        {"name": fence.name, "epoch": fence.epoch},
    ).first()
    if row is None:
        raise LeaseLost(f"lease {fence.name} is not held under epoch {fence.epoch} any more")
