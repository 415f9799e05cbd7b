"""The guard of a batch: move versions by compare and swap, and the bots' own rows with them.

What is true between any two calls: the version in `bot_states` is the number of bars that were stepped
and committed, and nothing of a step is in the ledger unless its version went through here. A `Move`
names the version and the revision that its work was begun on; it goes through if both are still the
ones in the database, so of two workers who stepped the same bar one finds nothing to move, as does a
step that was begun before an edit.

The comparison and the write have to be one action, or a second writer fits in between.

- PostgreSQL: one statement. `held` locks the bots' rows in the order of ids (two batches that overlap
  wait for one another and do not deadlock) and is what the revision is compared in: an edit that
  commits while we wait for the lock is seen, because the row is read again once it is locked. `moved`
  compares the version of the state, `born` inserts the first one and yields to a competitor who did.
- SQLite: there is one writer at a time, so what was read under BEGIN IMMEDIATE still holds when it is
  written, and two plain statements do.

The row of the bot is locked from here to the commit: heartbeat, balance and the count of errors in it
are those of the step, and an edit waits for the step or makes it stale.

| the process dies ... | what the next run sees |
|---|---|
| before, in or after these statements, before COMMIT | the version as it was: the same bars are due |
| after COMMIT | the version ahead, and with it the whole page (`persistence.ledger.pages`) |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from persistence.columns import names_of, read_rows, selected
from persistence.money import EXACT, plain_text
from persistence.rows import STATES, StateRow
from persistence.setwise import given_rows, ids_of, in_ids, parameters_of, upsert
from persistence.transaction import Transaction, is_sqlite, moment, run, run_many


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(StateRow):
    """A bot's next state, and where it must stand for it.

    `revision` None leaves edits of the row unguarded. `balance` is its equity, `gain` the sum of the
    net P&L of the trades that it closed.
    """

    revision: int | None
    from_version: int
    balance: Decimal
    gain: Decimal


def move(transaction: Transaction, moves: Sequence[Move], *, now_ms: int) -> dict[int, bool]:
    """Move every bot that is where its Move begins; return id -> whether its configuration is a new one."""
    if is_sqlite(transaction):
        return _move_sqlite(transaction, moves, now_ms)
    given = parameters_of(transaction, Move, moves) | {"now": moment(transaction, now_ms)}
    return dict(iter(transaction.exec_driver_sql(_move_sql(), given)))


@cache
def _move_sql() -> str:
    names = names_of(StateRow)
    sets = ", ".join(f"{name} = n.{name}" for name in names.split(", "))
    return f"""
WITH n AS MATERIALIZED ({given_rows(Move)}),
held AS MATERIALIZED (
  SELECT b.id, s.configuration FROM trading_bots b JOIN n ON n.bot_id = b.id
  LEFT JOIN bot_states s ON s.bot_id = b.id
  WHERE n.revision IS NULL OR n.revision = b.revision
  ORDER BY b.id FOR NO KEY UPDATE OF b
),
moved AS (
  UPDATE bot_states s SET {sets} FROM n JOIN held ON held.id = n.bot_id
  WHERE s.bot_id = n.bot_id AND s.version = n.from_version
  RETURNING s.bot_id, held.configuration IS DISTINCT FROM n.configuration AS is_new
),
born AS (
  INSERT INTO bot_states ({names})
  SELECT {", ".join(f"n.{name}" for name in names.split(", "))} FROM n JOIN held ON held.id = n.bot_id
  WHERE n.from_version = 0 ON CONFLICT (bot_id) DO NOTHING RETURNING bot_id, true AS is_new
)
UPDATE trading_bots b SET last_heartbeat = %(now)s, current_balance = n.balance,
  total_pnl = b.total_pnl + n.gain, error_count = 0, last_error = NULL, retry_at = NULL
FROM (SELECT bot_id, is_new FROM moved UNION ALL SELECT bot_id, is_new FROM born) AS done
JOIN n USING (bot_id)
WHERE b.id = done.bot_id
RETURNING b.id, done.is_new"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a move is compared with."""

    id: int
    revision: int
    version: int
    configuration: str | None
    total_pnl: Decimal
    broken: tuple[str, ...] = ()  # a sum must not be built on what had to be replaced to be read

    def is_begin_of(self, move_: Move) -> bool:
        return (
            not self.broken and self.version == move_.from_version and move_.revision in {None, self.revision}
        )


def _move_sqlite(transaction: Transaction, moves: Sequence[Move], now_ms: int) -> dict[int, bool]:
    columns = selected(
        Found, "sqlite", "b", version="coalesce(s.version, 0)", configuration="s.configuration"
    )
    rows = run(
        transaction,
        f"SELECT {columns} FROM trading_bots b LEFT JOIN bot_states s ON s.bot_id = b.id"
        f" WHERE b.id {in_ids(transaction)}",
        {"ids": ids_of(transaction, [wanted.bot_id for wanted in moves])},
    )
    found = {bot.id: bot for bot in read_rows(rows, Found)}
    going = [
        wanted for wanted in moves if wanted.bot_id in found and found[wanted.bot_id].is_begin_of(wanted)
    ]
    upsert(transaction, STATES, going)
    now = moment(transaction, now_ms)
    run_many(
        transaction,
        "UPDATE trading_bots SET last_heartbeat = :now, current_balance = :balance, total_pnl = :total,"
        " error_count = 0, last_error = NULL, retry_at = NULL WHERE id = :id",
        [
            {
                "now": now,
                "balance": plain_text(gone.balance),
                # Added in Decimal: SQLite's own sum would go through doubles.
                "total": plain_text(EXACT.add(found[gone.bot_id].total_pnl, gone.gain)),
                "id": gone.bot_id,
            }
            for gone in going
        ],
    )
    return {gone.bot_id: found[gone.bot_id].configuration != gone.configuration for gone in going}
