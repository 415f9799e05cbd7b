"""Who did what, append only: the database itself refuses to change or delete a row.

Edits and status changes of bots are written by triggers; this is for everything else.
"""

from dataclasses import dataclass

from persistence.transaction import Transaction, moment, ms_of, run


@dataclass(frozen=True, slots=True)
class AuditRow:
    """`old` and `new` are JSON texts of what changed, or the two statuses."""

    at: int
    actor: str
    action: str
    bot_id: int | None
    reason: str | None
    old: str | None
    new: str | None


def record(transaction: Transaction, row: AuditRow) -> None:
    run(
        transaction,
        "INSERT INTO audit_log (at, actor, action, bot_id, reason, old, new)"
        " VALUES (:at, :actor, :action, :bot_id, :reason, :old, :new)",
        {
            "at": moment(transaction, row.at),
            "actor": row.actor,
            "action": row.action,
            "bot_id": row.bot_id,
            "reason": row.reason,
            "old": row.old,
            "new": row.new,
        },
    )


def read_audit(transaction: Transaction, bot_id: int | None = None, limit: int = 100) -> tuple[AuditRow, ...]:
    """Return the newest rows, newest first."""
    mine = "" if bot_id is None else " WHERE bot_id = :bot_id"
    at = ms_of("at", transaction.dialect.name)
    rows = run(
        transaction,
        f"SELECT {at}, actor, action, bot_id, reason, old, new FROM audit_log{mine}"
        " ORDER BY id DESC LIMIT :limit",
        {"limit": limit} | ({} if bot_id is None else {"bot_id": bot_id}),
    )
    return tuple(AuditRow(*row) for row in rows)
