"""One list of columns per table: the fields of a frozen dataclass. Imports neither SQLAlchemy nor a driver.

A row's dataclass says of every column its name, its kind (the annotation) and whether it may be NULL
(`| None`). All else is made from that list, in the order of the fields: the columns of a SELECT and the
reading of its answer (here), INSERTs (`persistence.setwise`), the tables that migrations are compared
with (`persistence.schema.tables`). No other place counts columns, so a column that is added to a
dataclass is read and written, or a test says that the migration for it is missing.

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


def _as_it_is(column: str, dialect: str) -> str:
    del dialect
    return column


def _as_text(column: str, dialect: str) -> str:
    # PostgreSQL's driver would parse JSONB; a row hands on what somebody wrote, valid or not.
    del dialect
    return f"CAST({column} AS TEXT)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # SMALL is not INT, though they travel alike
class Kind:
    """How values of a kind travel. What is None or left out travels as it is."""

    array: str  # PostgreSQL's type of a parameter that carries a whole column
    value: str = "n.{}"  # PostgreSQL's SQL from an element of that parameter to the column
    selected: Callable[[str, str], str] = _as_it_is  # (column, dialect) -> SQL of what is read
    read: Callable[[Any], Any] | None = None  # from what the driver gave, not None
    zero: object = None  # what `read` has no answer for, where there may be no NULL
    write: Callable[[Any], Any] | None = None  # to what both drivers take
    write_sqlite: Callable[[Any], Any] | None = None  # ... or this one alone


INT: Final = Kind(array="bigint[]")
SMALL: Final = Kind(array="bigint[]")  # 32 bits are enough
TEXT: Final = Kind(array="text[]", write=storable)
NAME: Final = Kind(array="text[]", write=storable)  # at most 191 characters
FLAG: Final = Kind(array="boolean[]", read=bool)  # SQLite has 0 and 1
DOUBLE: Final = Kind(array="double precision[]")
BYTES: Final = Kind(array="bytea[]")
JSON: Final = Kind(array="text[]", value="n.{}::jsonb", selected=_as_text, write=storable)
# As text, because that is what `repr` of a double is, and because SQLite's numbers are doubles.
MONEY: Final = Kind(array="text[]", value="n.{}::numeric", read=read_money, zero=Decimal(0), write=plain_text)
MOMENT: Final = Kind(
    array="bigint[]",
    value="TIMESTAMPTZ 'epoch' + n.{} * INTERVAL '1 millisecond'",
    selected=ms_of,
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
    read = []
    for column in columns_of(row):
        sql = column.kind.selected(instead.get(column.name, f"{alias}.{column.name}"), dialect)
        # Text that is no moment is NULL to SQLite.
        read.append(sql if column.nullable or column.kind is not MOMENT else f"coalesce({sql}, 0)")
    return ", ".join(read)


def read_rows(answer: Iterable[Sequence[Any]], row: type[Row]) -> tuple[Row, ...]:
    """Return the rows of a query that selected `selected(row, ...)`."""
    readings = _readings(row)
    return tuple(row(*_read(values, readings)) for values in answer)


def read_joined(
    answer: Iterable[Sequence[Any]], row: type[Row], further: type
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Yield the rows of a query that selected `row` and then `further`: its columns by their names."""
    readings = _readings(row, further)
    names = [column.name for column in columns_of(further)]
    width = len(columns_of(row))
    for answered in answer:
        values = _read(answered, readings)
        yield row(*values[:width]), dict(zip(names, values[width:], strict=True))


Readings = tuple[tuple[int, Callable[[Any], Any], object], ...]


def _readings(*rows: type) -> Readings:
    """Return (place, read, zero) of the columns that are not what the driver gives."""
    columns = [column for row in rows for column in columns_of(row)]
    return tuple(
        (place, column.kind.read, None if column.nullable else column.kind.zero)
        for place, column in enumerate(columns)
        if column.kind.read is not None
    )


def _read(answered: Sequence[Any], readings: Readings) -> list[Any]:
    values = list(answered)
    for place, read, zero in readings:
        value = values[place]
        if value is not None:
            values[place] = zero if (found := read(value)) is None else found
    return values
