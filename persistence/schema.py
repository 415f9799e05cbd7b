"""The schema's version: bring it up, or say what is wrong with it.

All migrations run in one transaction on both databases, behind a lock, so a process killed at any
statement leaves the old schema, and two processes that upgrade at once do it one after the other.
Alembic is imported only by `upgrade`: the import takes longer than a bar may.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from persistence.database import Database, open_database
from persistence.tables import metadata

HISTORY: Final = ("0001",)  # every revision, oldest first
HEAD: Final = HISTORY[-1]
MIGRATIONS: Final = Path(__file__).with_name("migrations")
UPGRADE_LOCK: Final = 7_021_337_405  # any number, the same in every version


class SchemaTooNew(Exception):
    """The database was upgraded by a later version of this software: this one must not write to it."""


def upgrade(url: str) -> None:
    """Bring the schema to HEAD. Does nothing where it is there already.

    Raises DatabaseUnavailable, or SchemaTooNew.
    """
    with _opened(url) as database, database.write() as connection:
        if database.dialect == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("SET LOCAL lock_timeout = '30s'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})")
        found = _revision(connection)
        if found is not None and found not in HISTORY:
            raise SchemaTooNew(f"the schema is of revision {found}, this software knows {HEAD} at most")
        if found != HEAD:
            _migrate(connection)


def check(url: str) -> tuple[str, ...]:
    """Return what is wrong with the schema, and nothing if all is well. Raises DatabaseUnavailable."""
    with _opened(url) as database, database.read() as connection:
        found = _revision(connection)
        if found is None:
            return ("the database has no tables: run scheduler db upgrade",)
        if found not in HISTORY:
            return (f"the schema is of revision {found}, this software knows {HEAD} at most: upgrade it",)
        if found != HEAD:
            return (f"the schema is of revision {found}, not {HEAD}: run scheduler db upgrade",)
        return (*_missing(connection), *_damaged(connection))


def is_current(database: Database) -> bool:
    """Say cheaply whether the schema is the one of this software. Raises DatabaseUnavailable."""
    with database.read() as connection:
        return _revision(connection) == HEAD


def _migrate(connection: sa.Connection) -> None:
    from alembic import command  # 1.2 s
    from alembic.config import Config  # 1.2 s

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return None if row is None else str(row[0])


def _missing(connection: sa.Connection) -> Iterator[str]:
    inspector = sa.inspect(connection)
    present = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in present:
            yield f"table {table.name} is missing"
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                yield f"column {table.name}.{column.name} is missing"
    triggers = {str(row[0]) for row in connection.exec_driver_sql(TRIGGERS_SQL[connection.dialect.name])}
    for trigger in TRIGGERS[connection.dialect.name]:
        if trigger not in triggers:
            yield f"trigger {trigger} is missing"


def _damaged(connection: sa.Connection) -> Iterator[str]:
    if connection.dialect.name == "sqlite":
        for (finding,) in connection.exec_driver_sql("PRAGMA quick_check(10)"):
            if finding != "ok":
                yield f"the file is damaged: {finding}"


TRIGGERS_SQL: Final = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'",
}
BOTH: Final = (
    "trading_bots_edited",
    "trading_bots_status",
    "trading_bots_added",
    "trading_bots_removed",
    "bot_states_stay",
)
TRIGGERS: Final = {
    "sqlite": (*BOTH, "audit_log_no_update", "audit_log_no_delete"),
    "postgresql": (*BOTH, "trading_bots_who", "trading_bots_notify", "audit_log_append_only"),
}


@contextmanager
def _opened(url: str) -> Iterator[Database]:
    database = open_database(url)
    try:
        yield database
    finally:
        database.close()
