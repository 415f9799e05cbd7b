"""The owner of `breakers`: which exchange is left alone, by all workers and across restarts."""

from dataclasses import dataclass
from typing import Final

from persistence.columns import Name, Small, Table, read_rows, selected
from persistence.setwise import upsert
from persistence.transaction import Transaction, run


@dataclass(frozen=True, slots=True)
class BreakerRow:
    """The breaker of one exchange. Times in ms: opened at this moment, for so long."""

    name: Name
    failures: Small
    opened_at: int
    open_for: int
    reason: str


BREAKERS: Final = Table("breakers", BreakerRow, key=("name",))


def read_breaker(transaction: Transaction, name: str) -> BreakerRow | None:
    columns = selected(BreakerRow, transaction.dialect.name, "b")
    rows = run(transaction, f"SELECT {columns} FROM breakers b WHERE b.name = :name", {"name": name})
    return next(iter(read_rows(rows, BreakerRow)), None)


def write_breaker(transaction: Transaction, breaker: BreakerRow) -> None:
    """Insert or replace: the last failure or success that was seen counts."""
    upsert(transaction, BREAKERS, [breaker])
