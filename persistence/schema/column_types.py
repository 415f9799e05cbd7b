"""Column types whose Python side is the same on both databases."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from persistence.transaction import EPOCH, iso


class Money(TypeDecorator[Decimal]):
    """Decimal, exact: NUMERIC without limits, or text on SQLite, which knows only doubles."""

    impl = sa.Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        plain = sa.Text() if dialect.name == "sqlite" else sa.Numeric()
        return dialect.type_descriptor(plain)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return format(value, "f") if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return Decimal(value) if value is not None and dialect.name == "sqlite" else value


class Moment(TypeDecorator[int]):
    """Ms since the epoch, UTC, in Python; TIMESTAMPTZ, or ISO 8601 text on SQLite."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        plain = sa.Text() if dialect.name == "sqlite" else postgresql.TIMESTAMP(timezone=True)
        return dialect.type_descriptor(plain)

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return iso(value) if dialect.name == "sqlite" else datetime.fromtimestamp(value / 1_000, UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        if value is None:
            return None
        at = datetime.fromisoformat(value) if dialect.name == "sqlite" else value
        since = at - EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


class JsonText(TypeDecorator[str]):
    """JSON that is read as the text it is, so that a row broken by a plain edit breaks no other."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        plain = sa.Text() if dialect.name == "sqlite" else postgresql.JSONB()
        return dialect.type_descriptor(plain)

    def bind_expression(self, bindvalue: sa.BindParameter[str]) -> sa.ColumnElement[str]:
        return sa.cast(sa.type_coerce(bindvalue, sa.Text), _Json())

    def column_expression(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        return sa.cast(column, sa.Text)


class _Json(TypeDecorator[str]):
    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        plain = sa.Text() if dialect.name == "sqlite" else postgresql.JSONB()
        return dialect.type_descriptor(plain)
