"""The schema's version: bring it up, or say what is wrong with it.

What is true between any two calls: the database has no table of ours, or the whole schema of one revision
of `HISTORY`, or that of a later program, which this one leaves alone (`SchemaTooNew`): it cannot know
which of its writes a later schema would misread.

All migrations up to HEAD run in one transaction on both databases (SQLite's DDL is as transactional as
PostgreSQL's), and the revision is written in it. A migration a transaction would leave a schema between
two revisions, for which no program was written. The order:

1. Look, without a lock: nearly always there is nothing to do, and every start asks.
2. Import Alembic, which takes longer than a bar may: before the lock, while others still write.
3. Take the lock (BEGIN IMMEDIATE, or an advisory lock whose number is the same in every version), waiting
   as long as another process's migration may take.
4. Look again: the process that was waited for has done it.
5. Migrate, and commit.

| the process dies ... | what the next run sees |
|---|---|
| before the commit, at any statement | the old schema; `upgrade` can be run again |
| after it | HEAD |
| in `check` or `is_current` | what was there: they only read |
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from persistence.connect import ANSWER_TIMEOUT_S, BUSY_TIMEOUT_MS
from persistence.database import Database, open_database
from persistence.schema.tables import metadata

HISTORY: Final = ("0001",)  # every revision, oldest first
HEAD: Final = HISTORY[-1]
MIGRATIONS: Final = Path(__file__).with_name("migrations")
UPGRADE_WAIT_MS: Final = 30_000  # for another process that upgrades
UPGRADE_ANSWER_S: Final = 300.0  # longer than that wait, and than a migration of a large table
UPGRADE_LOCK: Final = 7_021_337_405  # any number, the same in every version


class SchemaTooNew(Exception):
    """The database was upgraded by a later version of this software: this one must not write to it."""


class SchemaUnfit(Exception):
    """The database has not the tables of this version; the message says what is missing and what mends it."""


def upgrade(url: str) -> None:
    """Bring the schema to HEAD. Does nothing where it is there already.

    Raises DatabaseUnavailable, or SchemaTooNew.
    """
    with _opened(url, busy_timeout_ms=UPGRADE_WAIT_MS, answer_timeout_s=UPGRADE_ANSWER_S) as database:
        with database.read() as connection:
            if not _behind(connection):
                return
        from alembic import command  # noqa: F401 -- 1.2 s in which others may still write

        with database.write() as connection:
            if database.dialect == "postgresql":
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {UPGRADE_WAIT_MS}")
                if (connection.dialect.server_version_info or ()) >= (17,):
                    connection.exec_driver_sql("SET LOCAL transaction_timeout = 0")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})")
            if _behind(connection):  # still, or another process was first
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


def require(url: str) -> None:
    """Raise SchemaUnfit with every finding of `check`, if there are any. Raises DatabaseUnavailable."""
    findings = check(url)
    if findings:
        raise SchemaUnfit("; ".join(findings))


def is_current(database: Database) -> bool:
    """Say cheaply whether the schema is the one of this software. Raises DatabaseUnavailable."""
    with database.read() as connection:
        return _revision(connection) == HEAD


def _behind(connection: sa.Connection) -> bool:
    found = _revision(connection)
    if found is not None and found not in HISTORY:
        raise SchemaTooNew(f"the schema is of revision {found}, this software knows {HEAD} at most")
    return found != HEAD


def _migrate(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return None if row is None else str(row.version_num)


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
    dialect = connection.dialect.name
    triggers = set(connection.exec_driver_sql(TRIGGERS_SQL[dialect]).scalars())
    for trigger in TRIGGERS[dialect]:
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
def _opened(
    url: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS, answer_timeout_s: float = ANSWER_TIMEOUT_S
) -> Iterator[Database]:
    database = open_database(url, busy_timeout_ms=busy_timeout_ms, answer_timeout_s=answer_timeout_s)
    try:
        yield database
    finally:
        database.close()
