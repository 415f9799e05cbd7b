"""The database refuses: a right, a table, a column, a page is missing while bots trade (R3.1, R8.6, R10.2).

No such fault is a bot's. Nobody is charged, health is red with the database's own words, and everything goes
on by itself when it is over, with the ledgers of an undisturbed run. ONEBAR_ATTACK=1 (`make attack`) tries
every fault that there is, the default one of each kind.
"""

import os
import sqlite3
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from chaos_world import Services, add_chaos_bots, all_caught_up, read, verify
from postgres_cluster import Cluster

from jobs.settings import Settings
from ops.health import read_status

ALL = bool(os.environ.get("ONEBAR_ATTACK"))
BOTS = 3
PROMPT_S = 10  # red after it has begun, green after it is over

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="a cluster and signals of POSIX"),
    pytest.mark.timeout(900),
]

# What is done to the database, what undoes it, a word of the database's that health repeats.
BY_SQL = {
    "no right to write steps": (
        "REVOKE INSERT ON bot_steps FROM onebar",
        "GRANT INSERT ON bot_steps TO onebar",
        "permission denied for table bot_steps",
    ),
    "a table is gone": (
        "ALTER TABLE bot_states RENAME TO gone",
        "ALTER TABLE gone RENAME TO bot_states",
        'relation "bot_states" does not exist',
    ),
}
BY_SQL_MORE = {
    "no right to read bots": (
        "REVOKE SELECT ON trading_bots FROM onebar",
        "GRANT SELECT ON trading_bots TO onebar",
        "permission denied",
    ),
    "no right to charge or beat": (
        "REVOKE UPDATE ON trading_bots FROM onebar",
        "GRANT UPDATE ON trading_bots TO onebar",
        "permission denied",
    ),
    "no right to record bars": (
        "REVOKE INSERT ON bars FROM onebar",
        "GRANT INSERT ON bars TO onebar",
        "permission denied",
    ),
    "no right to the lease": (
        "REVOKE UPDATE ON leases FROM onebar",
        "GRANT UPDATE ON leases TO onebar",
        "permission denied for table leases",
    ),
    "no right to the jobs": (
        "REVOKE UPDATE, SELECT ON apscheduler_jobs FROM onebar",
        "GRANT UPDATE, SELECT ON apscheduler_jobs TO onebar",
        "permission denied for table apscheduler_jobs",
    ),
    "no right to the status": (
        "REVOKE UPDATE ON service_runs FROM onebar",
        "GRANT UPDATE ON service_runs TO onebar",
        "said nothing",
    ),
    "a column is gone": (
        "ALTER TABLE bars RENAME COLUMN close TO gone",
        "ALTER TABLE bars RENAME COLUMN gone TO close",
        "does not exist",
    ),
    "the schema is closed": (
        "REVOKE USAGE ON SCHEMA public FROM onebar, PUBLIC",
        "GRANT USAGE ON SCHEMA public TO onebar, PUBLIC",
        "",
    ),
    "the role may not log in": (
        "ALTER ROLE onebar NOLOGIN;"
        + (END := " SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'onebar'"),
        "ALTER ROLE onebar LOGIN",
        "not permitted to log in",
    ),
    "no connection is left": (
        "ALTER ROLE onebar CONNECTION LIMIT 0;" + END,
        "ALTER ROLE onebar CONNECTION LIMIT -1",
        "too many connections",
    ),
    "the database is read-only": (
        "ALTER ROLE onebar SET default_transaction_read_only = on;" + END,
        "ALTER ROLE onebar RESET default_transaction_read_only",
        "",
    ),
    "the database has another name": (
        END + "; ALTER DATABASE onebar RENAME TO gone",
        END + "; ALTER DATABASE gone RENAME TO onebar",
        "does not exist",
    ),
}


class World:
    """One service with bots on one-second bars; `url` is the service's, `plain` its owner's."""

    def __init__(self, url, plain, folder):
        self.url = url
        self.plain = plain
        self.services = Services(url, folder, wanted=1)
        self.folder = folder
        self.times = []

    def status(self):
        return read_status(Settings.model_validate({"database": {"url": self.url}}))

    def wait(self, healthy, seconds=PROMPT_S + 20):
        """Wait until status is so; return the s that it took and what it said."""
        begun = time.monotonic()
        while (found := self.status()).healthy != healthy and time.monotonic() - begun < seconds:
            time.sleep(0.1)
        return time.monotonic() - begun, found

    def begin(self):
        self.services.keep()
        end = time.monotonic() + 40
        while not all_caught_up(self.plain, BOTS, 0) and time.monotonic() < end:
            time.sleep(0.2)
        assert self.wait(healthy=True)[1].healthy

    def suffer(self, name, begin, end, word):
        begin()
        red, said = self.wait(healthy=False)
        time.sleep(4)
        said = self.status() if self.status().reasons else said
        end()
        lifted = int(time.time()) * 1000
        green, after = self.wait(healthy=True)
        self.times.append((name, round(red, 1), round(green, 1)))
        rows = read(self.plain, "SELECT id, status, error_count, last_error FROM trading_bots ORDER BY id")
        assert [tuple(row[1:]) for row in rows] == [("running", 0, None)] * BOTS, (name, rows)
        assert red < PROMPT_S, (name, said)
        assert word in "; ".join(said.reasons), (name, said)
        assert green < PROMPT_S, (name, after)
        late = time.monotonic() + PROMPT_S
        while not all_caught_up(self.plain, BOTS, lifted) and time.monotonic() < late:
            time.sleep(0.1)
        assert all_caught_up(self.plain, BOTS, lifted), name

    def compare(self, capsys):
        codes = self.services.stop()
        expected, found, twice, faults = verify(self.plain, self.folder, range(1, BOTS + 1))
        with capsys.disabled():
            print(f"\nfault: s to red, s to green: {self.times}; bars {expected}, found {found}")
        assert faults == []
        assert (expected, twice) == (found, 0)
        assert codes == [0]


@contextmanager
def world(url, plain, folder):
    made = World(url, plain, folder)
    try:
        made.begin()
        yield made
    finally:
        made.services.kill_all()


def cluster_of_a_role():
    """Return a cluster whose service is no superuser, its URL and that of the owner."""
    cluster = Cluster()
    with cluster.connect() as connection:
        connection.execute("CREATE DATABASE onebar")
        connection.execute("CREATE ROLE onebar LOGIN")
    plain = cluster.url().removesuffix("postgres") + "onebar"
    add_chaos_bots(plain, BOTS, 1)
    database = cluster.url
    cluster.url = lambda port=None: database(port).removesuffix("postgres") + "onebar"
    with cluster.connect() as connection:
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO onebar")
        connection.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO onebar")
    cluster.url = database
    return cluster, plain.replace("postgres@", "onebar@"), plain


def test_no_fault_of_postgresql_is_charged_to_a_bot(tmp_path, capsys):
    import psycopg

    cluster, url, plain = cluster_of_a_role()

    def doing(sql):
        def do():
            place = cluster.url() if "ALTER DATABASE" in sql else plain
            with psycopg.connect(place, autocommit=True) as connection:
                for statement in sql.split(";"):
                    for _ in range(50):
                        try:
                            connection.execute(statement)
                            break
                        except psycopg.errors.ObjectInUse:
                            connection.execute(END)

        return do

    try:
        with world(url, plain, tmp_path) as place:
            for name, (begin, end, word) in (BY_SQL | (BY_SQL_MORE if ALL else {})).items():
                place.suffer(name, doing(begin), doing(end), word)
            place.compare(capsys)
    finally:
        cluster.remove()


def alter(file, *statements):
    def do():
        connection = sqlite3.connect(file, isolation_level=None, timeout=20)
        connection.execute("PRAGMA legacy_alter_table = ON")
        for statement in statements:
            connection.execute(statement)
        connection.close()

    return do


class Page:
    """The first page of a table, overwritten with rubbish and put back."""

    def __init__(self, file, table):
        self.file = Path(file)
        connection = sqlite3.connect(file, timeout=20)
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.close()
        self.at = (root - 1) * size
        self.size = size
        self.kept = b""

    def damage(self):
        connection = sqlite3.connect(self.file, isolation_level=None, timeout=20)
        for _ in range(200):  # until the page is in the file and nothing newer of it in the log
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("BEGIN IMMEDIATE")
            if Path(f"{self.file}-wal").stat().st_size == 0:
                break
            connection.rollback()
        with self.file.open("r+b") as opened:
            opened.seek(self.at)
            self.kept = opened.read(self.size)
            opened.seek(self.at)
            opened.write(b"\xee" * self.size)
        connection.rollback()
        connection.close()

    def mend(self):
        connection = sqlite3.connect(self.file, isolation_level=None, timeout=20)
        connection.execute("BEGIN IMMEDIATE")
        with self.file.open("r+b") as opened:
            opened.seek(self.at)
            opened.write(self.kept)
        connection.rollback()
        connection.close()


def test_no_fault_of_sqlite_is_charged_to_a_bot(tmp_path, capsys):
    file = tmp_path / "onebar.db"
    url = f"sqlite:///{file}"
    add_chaos_bots(url, BOTS, 1)
    with world(url, url, tmp_path) as place:
        place.suffer(
            "a table is gone",
            alter(file, "ALTER TABLE bot_states RENAME TO gone"),
            alter(file, "ALTER TABLE gone RENAME TO bot_states"),
            "no such table",
        )
        page = Page(file, "bot_steps")
        place.suffer("a page is damaged", page.damage, page.mend, "malformed")
        if ALL:
            for table in ("trading_bots", "bars", "apscheduler_jobs", "leases"):
                page = Page(file, table)
                place.suffer(f"a page of {table} is damaged", page.damage, page.mend, "")
            place.suffer(
                "a column is gone",
                alter(file, "ALTER TABLE bars RENAME COLUMN close TO gone"),
                alter(file, "ALTER TABLE bars RENAME COLUMN gone TO close"),
                "no such column",
            )
        place.compare(capsys)
