"""Who did what, append only: the database itself refuses to change or delete a row.

Its rows are written by the triggers of `trading_bots`, in the transaction of what they tell, so no door
and no plain SQL can forget them.
"""

from dataclasses import dataclass
from typing import Final

from persistence.columns import Moment, Table, read_rows, selected
from persistence.transaction import Transaction, run


@dataclass(frozen=True, slots=True)
class AuditRow:
    """`old` and `new` are JSON texts of what changed, or the two statuses."""

    at: Moment
    actor: str
    action: str
    bot_id: int | None
    reason: str | None
    old: str | None
    new: str | None


AUDIT: Final = Table("audit_log", AuditRow, key=())


def read_audit(transaction: Transaction, bot_id: int | None = None, limit: int = 100) -> tuple[AuditRow, ...]:
    """Return the newest rows, newest first."""
    mine = "" if bot_id is None else " WHERE a.bot_id = :bot_id"
    rows = run(
        transaction,
        f"SELECT {selected(AuditRow, transaction.dialect.name, 'a')} FROM audit_log a{mine}"
        " ORDER BY a.id DESC LIMIT :limit",
        {"limit": limit} | ({} if bot_id is None else {"bot_id": bot_id}),
    )
    return read_rows(rows, AuditRow)
