"""A column is named once, in the dataclass of its row; what is made from it holds together."""

from dataclasses import dataclass, fields, replace
from decimal import Decimal

import pytest

from persistence import audit, bars, breakers, leases, notifications, rows, runs
from persistence.columns import (
    BYTES,
    DOUBLE,
    FLAG,
    JSON,
    MONEY,
    Json,
    Moment,
    Small,
    Table,
    columns_of,
    read_joined,
    read_rows,
    selected,
)
from persistence.schema import tables
from persistence.setwise import insert, insert_new, upsert
from strategies.values import Bar

OWNERS = (audit, bars, breakers, leases, notifications, rows, runs)
TABLES = {value.name: value for owner in OWNERS for value in vars(owner).values() if isinstance(value, Table)}
# What a check of the table asks for.
CHECKED = {
    "trading_bots": {"type": "live", "status": "running"},
    "orders": {"side": "buy", "status": "Accepted"},
    "trading_trades": {"side": "long"},
    "trading_positions": {"side": "short"},
}


def samples(table):
    """Yield a full row, and one with NULL wherever there may be one."""
    values = {}
    for number, column in enumerate(columns_of(table.row), 1):
        by_kind = {
            BYTES: bytes([number, 0]), DOUBLE: number + 0.25, FLAG: True,
            JSON: f'{{"n": {number}}}', MONEY: Decimal(f"-{number}.0000000001"),
        }  # fmt: skip
        text = column.name if column.kind.write is not None else 1_700_000_000_000 + number
        values[column.name] = by_kind.get(column.kind, text)
    values |= {name: 7 for name in ("error_count", "attempts", "pid", "failures") if name in values}
    values |= {name: 3 for name in ("orders", "trades") if table.name == "bot_steps"}
    full = table.row(**values | CHECKED.get(table.name, {}))
    yield full
    yield replace(full, **{column.name: None for column in columns_of(table.row) if column.nullable})


class Undone(Exception):
    pass


def kept(connection, table):
    columns = selected(table.row, connection.dialect.name, "r")
    return read_rows(connection.exec_driver_sql(f"SELECT {columns} FROM {table.name} r"), table.row)


def test_every_table_is_made_from_the_row_that_is_written_and_read():
    assert set(tables.metadata.tables) == {*TABLES, "apscheduler_jobs"}
    for name, table in TABLES.items():
        made = tables.metadata.tables[name]
        own = [column.name for column in columns_of(table.row)]
        assert [column.name for column in made.columns if column.name in own] == own, name
        assert set(made.columns.keys()) - set(own) <= {"id"}, name
        assert own == [field.name for field in fields(table.row) if field.name != "broken"], name


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_column_comes_back_as_it_was_written(database, name):
    table = TABLES[name]
    for sample in samples(table):
        with pytest.raises(Undone):
            written_and_read(database, table, sample)


def written_and_read(database, table, sample):
    with database.write() as connection:
        if table is rows.STATES:
            connection.exec_driver_sql(
                f"INSERT INTO trading_bots (id, config) VALUES ({sample.bot_id}, '{{}}')"
            )
        insert(connection, table, [sample])
        # A trigger takes away who added a bot.
        expected = replace(sample, edited_by=None, edit_reason=None) if table is rows.BOTS else sample
        assert kept(connection, table) == (expected,)
        raise Undone  # the audit would not let itself be emptied


def test_what_a_row_does_that_is_there_already(database):
    row = breakers.BreakerRow("binance", 1, 2, 3, "first")
    other = replace(row, failures=5, opened_at=9, reason="second")
    with database.write() as connection:
        insert(connection, breakers.BREAKERS, [row])
        insert_new(connection, breakers.BREAKERS, [other, replace(other, name="kraken")])
        assert set(kept(connection, breakers.BREAKERS)) == {row, replace(other, name="kraken")}
        upsert(connection, breakers.BREAKERS, [other], keep=("opened_at",), add=("failures",))
        assert replace(other, failures=6, opened_at=2) in kept(connection, breakers.BREAKERS)
        insert(connection, breakers.BREAKERS, [])


def test_bars_are_read_by_the_fields_of_bar():
    own = {column.name: column for column in columns_of(bars.BarRow)}
    assert [own[column.name] for column in columns_of(Bar)] == list(columns_of(Bar))


@dataclass(frozen=True)
class Numbers:
    price: Decimal
    limit: Decimal | None
    at: Moment
    ended: Moment | None
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Beside:
    whole: Numbers  # no column: the reader is given it
    flag: bool | None
    text: Json
    count: Small
    held: tuple[int, ...]


def test_a_broken_value_reads_as_none_where_there_may_be_none_and_as_zero_elsewhere():
    answer = [("much", b"\0", "", None, 0, "{", 3)]
    ((found, named),) = read_joined(answer, Numbers, Beside)
    assert found == Numbers(
        Decimal(0),
        None,
        0,
        None,
        broken=(
            "price: found 'much', allowed: a decimal number",
            "limit: found b'\\x00', allowed: a decimal number",
            "at: found '', allowed: a time from 1970 to 9999, such as 2026-11-21T01:00:00Z",
        ),
    )
    assert named == {"flag": False, "text": "{", "count": 3}
    assert selected(Beside, "sqlite", "b", flag="x.y") == "x.y, CAST(b.text AS TEXT), b.count"


def test_a_field_of_no_kind_is_refused():
    @dataclass(frozen=True)
    class Strange:
        when: complex

    with pytest.raises(KeyError, match="complex"):
        columns_of(Strange)
