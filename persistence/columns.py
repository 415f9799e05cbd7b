"""One list of columns per table: the fields of a frozen dataclass. Imports neither SQLAlchemy nor a driver.

A row's dataclass says of every column its name, its kind (the annotation) and whether it may be NULL
(`| None`). All else is made from that list, in the order of the fields: the columns of a SELECT and the
reading of its answer (here), INSERTs (`persistence.setwise`), the tables that migrations are compared
with (`persistence.schema.tables`). No other place counts columns, so a column that is added to a
dataclass is read and written, or a test says that the migration for it is missing.

Plain SQL may write anything: SQLite keeps text in a column of numbers, PostgreSQL has a moment called
infinity. So what is read is looked at: a value that is none of its kind is replaced by the kind's zero, and
the row says so in its field `broken`, if it has one. The reader of a row without that field gets
`DamagedRow`, unless it asks for the sound rows only. Either way the fault is that row's, and no other row's.

Plain `int`, `str`, `bool`, `float`, `bytes` and `Decimal` are kinds as they are; where one Python type
stands for columns of two kinds, an alias below tells them apart.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Final, Generic, TypeVar, get_args, get_origin, get_type_hints

from persistence.money import plain_text, read_money
from persistence.text import storable
from persistence.transaction import iso, ms_of

Row = TypeVar("Row")
LONGEST_SHOWN: Final = 40  # characters of a value in a message


def _as_it_is(column: str, dialect: str) -> str:
    del dialect
    return column


def _moment(column: str, dialect: str) -> str:
    # A value that is no moment must be seen and not fail: for SQLite it is text that has no time in it.
    if dialect == "sqlite":
        return f"coalesce({ms_of(column, dialect)}, {column})"
    return f"CASE WHEN isfinite({column}) OR {column} IS NULL THEN {ms_of(column, dialect)} ELSE -1 END"


def _as_text(column: str, dialect: str) -> str:
    # PostgreSQL's driver would parse JSONB; a row hands on what somebody wrote, valid or not.
    del dialect
    return f"CAST({column} AS TEXT)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # SMALL is not INT, though they travel alike
class Kind:
    """How values of a kind travel. What is None or left out travels as it is."""

    array: str  # PostgreSQL's type of a parameter that carries a whole column
    types: tuple[type, ...]  # of what a driver gives
    allowed: str  # in words
    zero: object  # in place of what is none of this kind, where there may be no NULL
    value: str = "n.{}"  # PostgreSQL's SQL from an element of that parameter to the column
    selected: Callable[[str, str], str] = _as_it_is  # (column, dialect) -> SQL of what is read
    read: Callable[[Any], Any] | None = None  # from what the driver gave; None if it is none of this kind
    write: Callable[[Any], Any] | None = None  # to what both drivers take
    write_sqlite: Callable[[Any], Any] | None = None  # ... or this one alone


LAST_MOMENT: Final = 253_402_300_799_999  # ms; the end of the year 9999, behind which Python has no dates
WHOLE: Final = "a whole number"


def _read_flag(value: Any) -> bool | None:
    return bool(value) if value in (0, 1) else None  # SQLite has 0 and 1


def _read_moment(value: int) -> int | None:
    return value if 0 <= value <= LAST_MOMENT else None


INT: Final = Kind(array="bigint[]", types=(int,), allowed=WHOLE, zero=0)
SMALL: Final = Kind(array="bigint[]", types=(int,), allowed=WHOLE, zero=0)  # 32 bits are enough
TEXT: Final = Kind(array="text[]", types=(str,), allowed="text", zero="", write=storable)
NAME: Final = Kind(
    array="text[]", types=(str,), allowed="text", zero="", write=storable
)  # at most 191 characters
FLAG: Final = Kind(
    array="boolean[]", types=(bool, int), allowed="true or false, 1 or 0", zero=False, read=_read_flag
)
DOUBLE: Final = Kind(array="double precision[]", types=(float, int), allowed="a number", zero=0.0)
BYTES: Final = Kind(array="bytea[]", types=(bytes,), allowed="bytes", zero=b"")
JSON: Final = Kind(
    array="text[]",
    types=(str,),
    allowed="JSON as text",
    zero="",
    value="n.{}::jsonb",
    selected=_as_text,
    write=storable,
)
# As text, because that is what `repr` of a double is, and because SQLite's numbers are doubles.
MONEY: Final = Kind(
    array="text[]",
    types=(Decimal, str, int, float),
    allowed="a decimal number",
    zero=Decimal(0),
    value="n.{}::numeric",
    read=read_money,
    write=plain_text,
)
MOMENT: Final = Kind(
    array="bigint[]",
    types=(int,),
    allowed="a time from 1970 to 9999, such as 2026-11-21T01:00:00Z",
    zero=0,
    value="TIMESTAMPTZ 'epoch' + n.{} * INTERVAL '1 millisecond'",
    selected=_moment,
    read=_read_moment,
    write_sqlite=iso,
)

Small = Annotated[int, SMALL]
Name = Annotated[str, NAME]
Json = Annotated[str, JSON]
Moment = Annotated[int, MOMENT]  # ms since the epoch, UTC

PLAIN: Final = {int: INT, str: TEXT, bool: FLAG, float: DOUBLE, bytes: BYTES, Decimal: MONEY}


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: Kind
    nullable: bool


@dataclass(frozen=True, slots=True)
class Table(Generic[Row]):
    """A table's name, what its rows are, and the columns that name one; none if the database numbers them."""

    name: str
    row: type[Row]
    key: tuple[str, ...]


def columns_of(row: type) -> tuple[Column, ...]:
    """Return the columns that the fields of a dataclass name.

    A field that is a dataclass or a tuple (the bot of an `Overview`, its positions) is no column.
    """
    return _columns_of(row)


@cache  # to look hints up costs more than a batch's statements (apart: mypy takes no class for hashable)
def _columns_of(row: type) -> tuple[Column, ...]:
    columns = []
    for name, hint in get_type_hints(row, include_extras=True).items():
        nullable = type(None) in get_args(hint)
        kind = next(one for one in get_args(hint) if one is not type(None)) if nullable else hint
        if get_origin(kind) is Annotated:
            columns.append(Column(name, kind.__metadata__[0], nullable))
        elif get_origin(kind) is not tuple and not is_dataclass(kind):
            columns.append(Column(name, PLAIN[kind], nullable))
    return tuple(columns)


def names_of(row: type) -> str:
    return ", ".join(column.name for column in columns_of(row))


def selected(row: type, dialect: str, alias: str, **instead: str) -> str:
    """Return SQL for the columns of `row` from table alias `alias`; `instead` says where some come from.

    What is read cannot fail in the database, so that a row with a broken value hides no other row.
    """
    return ", ".join(
        column.kind.selected(instead.get(column.name, f"{alias}.{column.name}"), dialect)
        for column in columns_of(row)
    )


class DamagedRow(ValueError):
    """A row holds what none of ours writes there; the message names column, found and allowed."""


def read_rows(answer: Iterable[Sequence[Any]], row: type[Row]) -> tuple[Row, ...]:
    """Return the rows of a query that selected `selected(row, ...)`.

    Raises DamagedRow, unless the rows have a field `broken` that says what is wrong with them.
    """
    readings = _readings(row)
    says = "broken" in row.__dataclass_fields__  # type: ignore[attr-defined]  # rows are dataclasses
    rows = []
    for answered in answer:
        values, broken = _read(answered, readings)
        if broken and not says:
            raise DamagedRow(f"{row.__name__} {_key_of(answered)}: {'; '.join(broken)}")
        rows.append(_made(row, values, broken))
    return tuple(rows)


def read_sound_rows(answer: Iterable[Sequence[Any]], row: type[Row]) -> tuple[Row, ...]:
    """Return the rows that hold what they may, without the others."""
    readings = _readings(row)
    found = (_read(answered, readings) for answered in answer)
    return tuple(row(*values) for values, broken in found if not broken)


def read_joined(
    answer: Iterable[Sequence[Any]], row: type[Row], further: type
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Yield the rows of a query that selected `row` and then `further`: its columns by their names.

    `row` has a field `broken`, which also tells of the further columns.
    """
    readings = _readings(row, further)
    names = [column.name for column in columns_of(further)]
    width = len(columns_of(row))
    for answered in answer:
        values, broken = _read(answered, readings)
        found = _made(row, values[:width], broken)
        yield found, dict(zip(names, values[width:], strict=True))


def _made(row: Callable[..., Row], values: list[Any], broken: tuple[str, ...]) -> Row:
    return row(*values, broken=broken) if broken else row(*values)


Readings = tuple[tuple[Column, frozenset[type]], ...]


def _readings(*rows: type) -> Readings:
    return _readings_of(rows)


@cache  # apart, as above
def _readings_of(rows: tuple[type, ...]) -> Readings:
    nothing = type(None)
    # None where there may be no NULL is of a row that an outer join has not found.
    return tuple(
        (column, frozenset((*column.kind.types, nothing))) for row in rows for column in columns_of(row)
    )


def _read(answered: Sequence[Any], readings: Readings) -> tuple[list[Any], tuple[str, ...]]:
    """Return a row's values, and what is wrong with those that had to be replaced."""
    values = list(answered)
    broken: tuple[str, ...] = ()
    for place, (column, types) in enumerate(readings):
        value, kind = values[place], column.kind
        found = value if type(value) in types else None
        if found is not None and kind.read is not None:
            found = kind.read(found)
        if found is None and value is not None:
            broken = (*broken, f"{column.name}: found {_shown(value)}, allowed: {kind.allowed}")
            found = None if column.nullable else kind.zero
        values[place] = found
    return values, broken


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."


def _key_of(answered: Sequence[Any]) -> str:
    return ", ".join(_shown(value) for value in list(answered)[:4])
