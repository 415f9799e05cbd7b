import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event

import persistence
from persistence.database import open_database
from persistence.database_errors import DatabaseUnavailable
from persistence.schema.tables import OPERATIONAL_TABLES, TIMING_COLUMNS, metadata
from persistence.schema.versions import HEAD, HISTORY, MIGRATIONS, SchemaTooNew, check, is_current, upgrade


@pytest.fixture
def empty(empty_url):
    database = open_database(empty_url)
    yield database
    database.close()


def shape(database) -> dict[str, object]:
    """Return everything that reflection sees of a schema, but for tables of Alembic itself."""
    with database.read() as connection:
        inspector = sa.inspect(connection)
        return {
            name: (
                [{**column, "type": repr(column["type"])} for column in inspector.get_columns(name)],
                inspector.get_pk_constraint(name),
                sorted(map(plain, inspector.get_indexes(name)), key=str),
                sorted(inspector.get_unique_constraints(name), key=lambda each: each["name"]),
                sorted(inspector.get_check_constraints(name), key=lambda each: each["name"]),
                sorted(inspector.get_foreign_keys(name), key=lambda each: each["name"]),
            )
            for name in inspector.get_table_names()
            if name != "alembic_version"
        }


def plain(index):
    return index | {
        "dialect_options": {name: str(option) for name, option in index["dialect_options"].items()}
    }


def numbering(database):
    """Return what SQLite's reflection does not see: how rows are numbered."""
    if database.dialect != "sqlite":
        return None
    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'table'").all()
    words = ("WITHOUT ROWID", "AUTOINCREMENT")
    return {name: [word for word in words if word in sql] for name, sql in rows if name != "alembic_version"}


def test_the_migrations_build_what_the_tables_say(empty):
    upgrade(empty.url)
    migrated = shape(empty), numbering(empty)
    with empty.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.exec_driver_sql(f"DROP TABLE {table.name}")
        metadata.create_all(connection)
    assert (shape(empty), numbering(empty)) == migrated
    assert set(migrated[0]) == set(metadata.tables)


def test_alembic_sees_no_difference(database):
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_upgrade_is_idempotent(empty_url):
    assert check(empty_url) == ("the database has no tables: run scheduler db upgrade",)
    upgrade(empty_url)
    assert check(empty_url) == ()
    upgrade(empty_url)
    assert check(empty_url) == ()


def test_f24_a_migration_that_dies_at_any_statement_leaves_nothing(empty):
    class Died(BaseException):
        pass

    left = 0

    def die(*call):
        del call
        nonlocal left
        left -= 1
        if left == 0:
            raise Died

    event.listen(sa.Engine, "before_cursor_execute", die)
    try:
        for number in range(1, 200):
            left = number
            try:
                upgrade(empty.url)
            except Died:
                left = 0
                with empty.read() as connection:
                    assert sa.inspect(connection).get_table_names() == [], f"after statement {number}"
            else:
                break
        else:
            pytest.fail("it never ended")
    finally:
        event.remove(sa.Engine, "before_cursor_execute", die)
    assert number > 30
    assert check(empty.url) == ()


def test_a_migration_that_is_killed_can_be_run_again(empty_url):
    """kill -9 at several moments of a real process."""
    for wait_s in (0.0, 0.01, 0.03):
        code = (
            "import sys, persistence.schema as s, alembic.command; from alembic.config import Config\n"
            "print('go', flush=True); s.upgrade(sys.argv[1])"
        )
        with subprocess.Popen([sys.executable, "-c", code, empty_url], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"go\n"
            time.sleep(wait_s)
            os.kill(process.pid, signal.SIGKILL)
        assert check(empty_url) in {(), ("the database has no tables: run scheduler db upgrade",)}
    upgrade(empty_url)
    assert check(empty_url) == ()


def test_two_upgrades_at_once(empty_url):
    errors = []

    def run():
        try:
            upgrade(empty_url)
        except Exception as exc:  # noqa: BLE001 -- shown by the assertion
            errors.append(exc)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []
    assert check(empty_url) == ()


def test_f24_an_older_program_leaves_a_newer_schema_alone(database):
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert not is_current(database)
    assert "revision 9999" in check(database.url)[0]
    with pytest.raises(SchemaTooNew, match="9999"):
        upgrade(database.url)


def test_check_names_what_is_missing(database):
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE notifications")
        connection.exec_driver_sql("ALTER TABLE bot_errors DROP COLUMN last_message")
        on = "" if database.dialect == "sqlite" else " ON trading_bots"
        connection.exec_driver_sql(f"DROP TRIGGER trading_bots_edited{on}")
    assert set(check(database.url)) == {
        "table notifications is missing",
        "column bot_errors.last_message is missing",
        "trigger trading_bots_edited is missing",
    }


def test_f9_check_finds_a_damaged_file(sqlite_url):
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    database = open_database(sqlite_url)
    with database.write() as connection:
        for number in range(200):
            connection.exec_driver_sql(
                "INSERT INTO configurations VALUES (?, ?)", (f"{number:05}", "x" * 900)
            )
        connection.exec_driver_sql("CREATE INDEX broken ON configurations (config)")
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    content = bytearray(file.read_bytes())
    at = content.rindex(b"x" * 400)
    content[at - 2_000 : at + 2_000] = b"\xff" * 4_000
    file.write_bytes(content)
    try:
        findings = check(sqlite_url)
    except sa.exc.DatabaseError as exc:  # so broken that it cannot be read
        findings = (str(exc),)
    assert any("damaged" in finding or "malformed" in finding for finding in findings)


def test_check_of_a_server_that_is_not_there():
    with pytest.raises(DatabaseUnavailable):
        check("postgresql://nobody@127.0.0.1:1/nothing")


def test_head_is_the_newest_migration_and_history_knows_all():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [HEAD]
    assert tuple(each.revision for each in scripts.walk_revisions())[::-1] == HISTORY


def test_is_current_imports_no_alembic(database_url):
    code = (
        "import sys\nfrom persistence.database import open_database\n"
        "from persistence.schema.versions import is_current\n"
        "assert is_current(open_database(sys.argv[1])); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, database_url], check=True)


def test_timing_columns_exist():
    for name, columns in TIMING_COLUMNS.items():
        assert columns <= set(metadata.tables[name].columns.keys())
    assert OPERATIONAL_TABLES - {"alembic_version"} <= set(metadata.tables)


def test_every_query_names_its_columns():
    files = list(Path(persistence.__file__).parent.rglob("*.py"))
    assert {"bots.py", "steps.py", "tables.py"} <= {file.name for file in files}, (
        "the whole room is looked at"
    )
    for file in files:
        assert "SELECT *" not in file.read_text().upper(), file
