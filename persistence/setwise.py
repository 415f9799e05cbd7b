"""Many rows in one statement, in each database's own words.

PostgreSQL takes columns as arrays (`unnest`): one statement of 100 rows costs a hundredth of 100
statements. SQLite has no arrays and needs none: its statements do not travel.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from persistence.text import storable
from persistence.transaction import Transaction, is_sqlite, iso

# kind -> (array type of the parameter, SQL of the value).
# Money travels as text, because that is what `repr` of a double is; moments travel as ms.
KINDS: Final = {
    "int": ("bigint[]", "n.{}"),
    "text": ("text[]", "n.{}"),
    "money": ("text[]", "n.{}::numeric"),
    "flag": ("boolean[]", "n.{}"),
    "double": ("double precision[]", "n.{}"),
    "bytes": ("bytea[]", "n.{}"),
    "moment": ("bigint[]", "TIMESTAMPTZ 'epoch' + n.{} * INTERVAL '1 millisecond'"),
}


@dataclass(frozen=True)
class Target:
    """Where rows go: `columns` maps names to kinds, in the order of the values; `key` is what conflicts.

    `keep` names the columns that the first write decides; "*" if all of them are. Without a `key` a
    row that is there already is an error.
    """

    table: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


def write_rows(transaction: Transaction, target: Target, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows, or update those that are there. No two of them may have the same key."""
    if not rows:
        return
    columns = {
        name: _ready(transaction, kind, column)
        for (name, kind), column in zip(target.columns, zip(*rows, strict=True), strict=True)
    }
    if is_sqlite(transaction):
        transaction.exec_driver_sql(_sqlite(target), list(zip(*columns.values(), strict=True)))
    else:
        transaction.exec_driver_sql(_postgresql(target), columns)


def _ready(transaction: Transaction, kind: str, column: Sequence[Any]) -> list[Any]:
    """Return a column's values as the driver takes them."""
    if kind == "text":
        return [None if value is None else storable(value) for value in column]
    if kind == "moment" and is_sqlite(transaction):
        return [None if value is None else iso(value) for value in column]
    return list(column)


@cache
def _sqlite(target: Target) -> str:
    names = ", ".join(name for name, _ in target.columns)
    marks = ", ".join("?" * len(target.columns))
    return f"INSERT INTO {target.table} ({names}) VALUES ({marks}) {_conflict(target)}"


@cache
def _postgresql(target: Target) -> str:
    names = ", ".join(name for name, _ in target.columns)
    values = ", ".join(KINDS[kind][1].format(name) for name, kind in target.columns)
    chosen = f"SELECT {values} FROM {arrays(target.columns)}"
    return f"INSERT INTO {target.table} ({names}) {chosen} {_conflict(target)}"


@cache
def arrays(columns: tuple[tuple[str, str], ...]) -> str:
    """Return SQL for a table `n` of parameters that are arrays, named as the columns."""
    names = ", ".join(name for name, _ in columns)
    # Binary, because text would be escaped, element by element, in Python.
    given = ", ".join(f"%({name})b::{KINDS[kind][0]}" for name, kind in columns)
    return f"unnest({given}) AS n({names})"


def _conflict(target: Target) -> str:
    if not target.key:
        return ""
    key = ", ".join(target.key)
    if "*" in target.keep:
        return f"ON CONFLICT ({key}) DO NOTHING"
    free = [name for name, _ in target.columns if name not in target.key and name not in target.keep]
    return f"ON CONFLICT ({key}) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in free)


def in_ids(transaction: Transaction) -> str:
    """Return SQL after a column's name for: is one of parameter `:ids`."""
    return "IN (SELECT value FROM json_each(:ids))" if is_sqlite(transaction) else "= ANY(:ids)"


def ids_of(transaction: Transaction, ids: Collection[int]) -> Any:
    """Return the parameter `:ids` for `in_ids`."""
    return json.dumps(list(ids)) if is_sqlite(transaction) else list(ids)
