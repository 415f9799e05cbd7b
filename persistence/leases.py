"""The right to schedule: one row per name, with an epoch, by the database's clock.

What is true between any two calls: a lease has at most one holder per epoch, epochs only grow, and no
write of a step stands in the ledger under an epoch that was over when it committed.

- The clock is the database's, because two machines do not agree on theirs. `until` only says when a
  standby may take the lease; it never proves that the holder still has it. A holder whose clock or
  network stood still finds out by its epoch.
- A write carries the epoch that it was begun under (`Fence`). `assert_held` is the first statement of
  its transaction and locks the row (FOR KEY SHARE) until the commit: a takeover, which changes the key
  (name, epoch), waits for that commit, or came first and the write finds no row. To check before the
  transaction, or at its end without a lock, would leave a gap for a takeover.
- The holder's own renewals change no key column, so steps do not hold them up. On SQLite BEGIN IMMEDIATE
  is the lock.
- A holder that is lost or frozen in the middle of a transaction holds its lock on the row, and the server may
  never notice: in the middle of a message it waits without a limit. So who finds the lease over ends the
  sessions of its holder, which carry the name of its run, before it asks for the row (`end_sessions`). That
  is no judgement of who leads: the row alone says so, and a holder that was only late opens new sessions.

| the holder dies ... | what the next one sees |
|---|---|
| between two renewals | the row with an `until` that passes: taken then, with the next epoch |
| in a transaction under the fence | nothing of it; its lock is gone, or goes with its session |
| after `release` | `until` is 0: taken at once |
| but is only frozen, and wakes up after the takeover | its next fenced write raises LeaseLost |
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from persistence.columns import Table, read_rows, selected
from persistence.connect import session_name
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


LEASES: Final = Table("leases", Lease, key=("name",))


@dataclass(frozen=True, slots=True)
class Fence:
    """The epoch that a write was begun under."""

    name: str
    epoch: int


def acquire(
    transaction: Transaction, name: str, holder: str, ttl_ms: int, *, take: bool = False
) -> Lease | None:
    """Take the lease if it is free, over, or `holder`'s own; return None if another one has it.

    `take` takes it from its holder: only for a caller who knows that the holder is dead.
    """
    now = now_ms_sql(transaction.dialect.name)
    parameters = {"name": name, "holder": holder, "ttl": ttl_ms}
    over = "" if take else f" AND (until <= {now} OR holder = :holder)"
    taken = _changed(
        transaction,
        f"UPDATE leases SET holder = :holder, epoch = epoch + 1, until = {now} + :ttl"
        f" WHERE name = :name{over}",
        parameters,
    )
    # An INSERT waits for a renewal under way, which may be that of a leader who is lost in it: so only the
    # first one ever inserts.
    if taken is not None or read_lease(transaction, name) is not None:
        return taken
    # DO UPDATE would watch one unique index only: of two who are the first at the same moment, PostgreSQL
    # can fail the later one on the other, (name, epoch). DO NOTHING watches both.
    return _changed(
        transaction,
        f"INSERT INTO leases (name, holder, epoch, until) VALUES (:name, :holder, 1, {now} + :ttl)"
        " ON CONFLICT DO NOTHING",
        parameters,
    )


def end_sessions(transaction: Transaction, name: str, holder: str) -> int:
    """End the sessions of another holder whose lease is over and was not released; return how many.

    PostgreSQL only. Those of a role of another name are out of reach; the server's own limits end them.
    """
    ended = 0
    over = f"until > 0 AND until <= {now_ms_sql(transaction.dialect.name)}"
    lost = run(
        transaction,
        f"SELECT holder FROM leases WHERE name = :name AND holder <> :holder AND {over}",
        {"name": name, "holder": holder},
    )
    for (old,) in lost:
        ended += len(
            run(
                transaction,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :session"
                " AND datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()",
                {"session": session_name(old)},
            ).all()
        )
    return ended


def renew(transaction: Transaction, lease: Lease, ttl_ms: int) -> Lease:
    """Extend the lease, also one that is over but that nobody took. Raises LeaseLost."""
    renewed = _changed(
        transaction,
        f"UPDATE leases SET until = {now_ms_sql(transaction.dialect.name)} + :ttl"
        " WHERE name = :name AND holder = :holder AND epoch = :epoch",
        {"name": lease.name, "holder": lease.holder, "epoch": lease.epoch, "ttl": ttl_ms},
    )
    if renewed is None:
        raise _lost(lease)
    return renewed


def release(transaction: Transaction, lease: Lease) -> None:
    """Let others acquire it at once. Does nothing if it was taken already."""
    run(
        transaction,
        "UPDATE leases SET until = 0 WHERE name = :name AND holder = :holder AND epoch = :epoch",
        {"name": lease.name, "holder": lease.holder, "epoch": lease.epoch},
    )


def read_lease(transaction: Transaction, name: str) -> Lease | None:
    columns = selected(Lease, transaction.dialect.name, "l")
    return _only(run(transaction, f"SELECT {columns} FROM leases l WHERE l.name = :name", {"name": name}))


def assert_held(transaction: Transaction, fence: Fence) -> None:
    """Hold off a takeover until this transaction ends. Raises LeaseLost if there was one."""
    locking = "" if is_sqlite(transaction) else " FOR KEY SHARE"
    held = run(
        transaction,
        "SELECT epoch FROM leases WHERE name = :name AND epoch = :epoch" + locking,
        {"name": fence.name, "epoch": fence.epoch},
    ).first()
    if held is None:
        raise _lost(fence)


def _changed(transaction: Transaction, sql: str, parameters: Mapping[str, object]) -> Lease | None:
    """Return the lease that a statement has written, as it is now, or None if it met no row."""
    columns = selected(Lease, transaction.dialect.name, "leases")
    return _only(run(transaction, f"{sql} RETURNING {columns}", parameters))


def _only(answer: Iterable[Any]) -> Lease | None:
    return next(iter(read_rows(answer, Lease)), None)


def _lost(held: Lease | Fence) -> LeaseLost:
    return LeaseLost(f"lease {held.name} is not held under epoch {held.epoch} any more")
