"""The guard of a batch: move versions by compare and swap, and the bots' own rows with them.

PostgreSQL does it in one statement. Locks are taken in the order of ids, so two batches that overlap
wait for one another and do not deadlock. SQLite has one writer at a time: what was read under
BEGIN IMMEDIATE still holds when it is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, reduce
from typing import Final

from persistence.money import EXACT, money, read_money, text_of
from persistence.setwise import arrays, ids_of, in_ids
from persistence.transaction import Transaction, is_sqlite, moment, run


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One bot from `from_version` to `version`; `value` is its equity, `gains` the P&L of closed trades."""

    bot_id: int
    revision: int | None
    from_version: int
    version: int
    last_bar: int
    first_bar: int | None
    trade_from: int | None
    configuration: str
    fingerprint: str
    state: bytes
    value: float
    gains: tuple[float, ...]

    @property
    def gain(self) -> Decimal:
        return reduce(EXACT.add, map(money, self.gains), Decimal(0))


# Written as they are into bot_states.
STATE: Final = (
    ("version", "int"),
    ("last_bar", "int"),
    ("first_bar", "int"),
    ("trade_from", "int"),
    ("configuration", "text"),
    ("fingerprint", "text"),
    ("state", "bytes"),
)
NAMES: Final = ", ".join(name for name, _ in STATE)


def move(transaction: Transaction, moves: Sequence[Move], *, now_ms: int) -> dict[int, bool]:
    """Move every bot that is where its Move begins; return id -> whether its configuration is a new one."""
    if is_sqlite(transaction):
        return _move_sqlite(transaction, moves, now_ms)
    return _move_postgresql(transaction, moves, now_ms)


GIVEN: Final = (
    ("bot_id", "int"),
    ("revision", "int"),
    ("from_version", "int"),
    *STATE,
    ("balance", "money"),
    ("gain", "money"),
)


@cache
def _move_sql() -> str:
    names = ", ".join(f"n.{name}" for name, _ in GIVEN)
    sets = ", ".join(f"{name} = n.{name}" for name, _ in STATE)
    return f"""
WITH n AS MATERIALIZED (SELECT {names} FROM {arrays(GIVEN)}),
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
  INSERT INTO bot_states (bot_id, {NAMES})
  SELECT n.bot_id, {", ".join(f"n.{name}" for name, _ in STATE)} FROM n JOIN held ON held.id = n.bot_id
  WHERE n.from_version = 0 ON CONFLICT (bot_id) DO NOTHING RETURNING bot_id, true AS is_new
)
UPDATE trading_bots b SET last_heartbeat = %(now)s, current_balance = n.balance::numeric,
  total_pnl = b.total_pnl + n.gain::numeric, error_count = 0, last_error = NULL, retry_at = NULL
FROM (SELECT bot_id, is_new FROM moved UNION ALL SELECT bot_id, is_new FROM born) AS done
JOIN n USING (bot_id)
WHERE b.id = done.bot_id
RETURNING b.id, done.is_new"""


def _move_postgresql(transaction: Transaction, moves: Sequence[Move], now_ms: int) -> dict[int, bool]:
    parameters: dict[str, object] = {
        name: [getattr(each, name) for each in moves] for name, _ in GIVEN if name not in {"balance", "gain"}
    }
    parameters["balance"] = [text_of(each.value) for each in moves]
    parameters["gain"] = [str(each.gain) for each in moves]
    parameters["now"] = moment(transaction, now_ms)
    rows = transaction.exec_driver_sql(_move_sql(), parameters)
    return {int(row[0]): bool(row[1]) for row in rows}


def _move_sqlite(transaction: Transaction, moves: Sequence[Move], now_ms: int) -> dict[int, bool]:
    found = {
        int(row[0]): row
        for row in run(
            transaction,
            "SELECT b.id, b.revision, coalesce(s.version, 0), s.configuration, b.total_pnl"
            " FROM trading_bots b LEFT JOIN bot_states s ON s.bot_id = b.id"
            f" WHERE b.id {in_ids(transaction)}",
            {"ids": ids_of(transaction, [each.bot_id for each in moves])},
        )
    }
    going = [each for each in moves if each.bot_id in found and _is_at(found[each.bot_id], each)]
    if not going:
        return {}
    transaction.exec_driver_sql(
        f"INSERT INTO bot_states (bot_id, {NAMES}) VALUES (?{', ?' * len(STATE)})"
        " ON CONFLICT (bot_id) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name, _ in STATE),
        [(each.bot_id, *(getattr(each, name) for name, _ in STATE)) for each in going],
    )
    now = moment(transaction, now_ms)
    transaction.exec_driver_sql(
        "UPDATE trading_bots SET last_heartbeat = ?, current_balance = ?, total_pnl = ?,"
        " error_count = 0, last_error = NULL, retry_at = NULL WHERE id = ?",
        [(now, text_of(each.value), _total(found[each.bot_id][4], each.gain), each.bot_id) for each in going],
    )
    return {each.bot_id: found[each.bot_id][3] != each.configuration for each in going}


def _is_at(row: Sequence[object], move_: Move) -> bool:
    return row[2] == move_.from_version and move_.revision in {None, row[1]}


def _total(before: object, gain: Decimal) -> str:
    """Add in Decimal: SQLite's own SUM would go through doubles."""
    return format(EXACT.add(read_money(before) or Decimal(0), gain), "f")
