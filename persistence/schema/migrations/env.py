"""Alembic runs inside the transaction that `persistence.schema.upgrade` has begun: all of it, or nothing."""

from typing import Any

from alembic import context
from sqlalchemy import Connection

from persistence.schema.column_types import Moment
from persistence.schema.tables import OPERATIONAL_TABLES, metadata


def include(thing: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:
    """Leave out what is not described by the metadata: tables that other rooms keep."""
    del thing, compared
    return not (kind == "table" and reflected and name in OPERATIONAL_TABLES - set(metadata.tables))


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transactional_ddl=True,  # SQLite's DDL is as transactional as PostgreSQL's; Alembic assumes not
        render_as_batch=connection.dialect.name == "sqlite",
        include_object=include,
        user_module_prefix=f"{Moment.__module__}.",
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
