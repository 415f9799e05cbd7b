"""Many rows in one statement, in each database's own words.

A batch of a hundred bots is a handful of statements, never a hundred: PostgreSQL takes columns as
arrays (`unnest`), and one statement of 100 rows costs a hundredth of 100 statements. SQLite has no
arrays and needs none: its statements do not travel.

Rows are values of the dataclass that the table's columns are made from, so there is no order of
values to keep in step with an order of names. What a row does that is there already is said by the
function: `insert` (that is a fault), `insert_new` (the first one stays), `upsert` (the last one does).
Which of the three is right follows from who writes again after a crash: a step's row cannot be there,
its guard has seen to that; an alert or a candle may be told twice and must not change; an order is
told of many times and is what was said last.

Within one call no two rows may have the same key: PostgreSQL refuses to update a row twice in a
statement, and which of the two should stay is for the caller to say.
"""

import json
from collections.abc import Collection, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

from persistence.columns import Row, Table, columns_of, names_of
from persistence.transaction import Transaction, is_sqlite


def insert(transaction: Transaction, table: Table[Row], rows: Sequence[Row]) -> None:
    """Insert rows; one that is there already is an error of the database."""
    _write(transaction, table, rows, "")


def insert_new(transaction: Transaction, table: Table[Row], rows: Sequence[Row]) -> None:
    """Insert the rows that are not there."""
    _write(transaction, table, rows, f"ON CONFLICT ({', '.join(table.key)}) DO NOTHING")


def upsert(
    transaction: Transaction,
    table: Table[Row],
    rows: Sequence[Row],
    *,
    keep: tuple[str, ...] = (),
    add: tuple[str, ...] = (),
) -> None:
    """Insert rows, or update those that are there: columns of `keep` stay, those of `add` are added to."""
    _write(transaction, table, rows, _update(table, keep, add))


@cache
def _update(table: Table[Any], keep: tuple[str, ...], add: tuple[str, ...]) -> str:
    free = [one.name for one in columns_of(table.row) if one.name not in {*table.key, *keep}]
    sets = (f"{name} = {f'{table.name}.{name} + ' if name in add else ''}excluded.{name}" for name in free)
    return f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET " + ", ".join(sets)


def _write(transaction: Transaction, table: Table[Row], rows: Sequence[Row], conflict: str) -> None:
    if not rows:
        return
    given = parameters_of(transaction, table.row, rows)
    if is_sqlite(transaction):
        names, marks = ", ".join(given), ", ".join("?" * len(given))
        transaction.exec_driver_sql(
            f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {conflict}",
            list(zip(*given.values(), strict=True)),
        )
    else:
        transaction.exec_driver_sql(f"{_from_arrays(table)} {conflict}", given)


@cache
def _from_arrays(table: Table[Any]) -> str:
    return f"INSERT INTO {table.name} ({names_of(table.row)}) {given_rows(table.row)}"


def parameters_of(transaction: Transaction, kind: type, rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the values of rows by column, as the driver takes them."""
    sqlite = is_sqlite(transaction)
    given = {}
    for column in columns_of(kind):
        values = map(attrgetter(column.name), rows)
        write = (column.kind.write_sqlite if sqlite else None) or column.kind.write
        if write is None:
            given[column.name] = list(values)
        elif column.nullable:
            given[column.name] = [None if value is None else write(value) for value in values]
        else:
            given[column.name] = list(map(write, values))
    return given


def given_rows(kind: type) -> str:
    """Return PostgreSQL's SELECT of the rows whose columns `parameters_of` put into arrays."""
    columns = columns_of(kind)
    values = ", ".join(f"{column.kind.value.format(column.name)} AS {column.name}" for column in columns)
    # Binary, because text would be escaped, element by element, in Python.
    arrays = ", ".join(f"%({column.name})b::{column.kind.array}" for column in columns)
    return f"SELECT {values} FROM unnest({arrays}) AS n({names_of(kind)})"


def in_ids(transaction: Transaction) -> str:
    """Return SQL after a column's name for: is one of parameter `:ids`."""
    return "IN (SELECT value FROM json_each(:ids))" if is_sqlite(transaction) else "= ANY(:ids)"


def ids_of(transaction: Transaction, ids: Collection[int]) -> Any:
    """Return the parameter `:ids` for `in_ids`."""
    return json.dumps(list(ids)) if is_sqlite(transaction) else list(ids)
