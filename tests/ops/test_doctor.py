"""The doctor: what a new installation gets wrong is named, with what mends it, and nothing is changed."""

import json
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from jobs.settings import WorkerSettings
from ops.doctor import Mark, examine, report, storage
from ops.doctor import host as machine
from persistence.bots import add_bot
from tests.strategies.broken_configs import REFERENCE

NOT_ON_WINDOWS = pytest.mark.skipif(sys.platform == "win32", reason="file modes")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder to run in, without settings from outside."""
    for key in [key for key in os.environ if key.startswith("ONEBAR_")]:
        monkeypatch.delenv(key)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _found(checks, name, mark):
    return [check for check in checks if check.name == name and check.mark is mark]


def _healthy_bot(database):
    with database.write() as connection:
        return add_bot(connection, config=json.dumps(REFERENCE), now_ms=1)


def test_a_sound_installation_has_nothing_to_mend(database, database_url):
    _healthy_bot(database)
    checks = tuple(examine(None, database_url))
    # The tests' server does not sync, which the doctor rightly finds.
    allowed = {"durability"} if database.dialect == "postgresql" else set()
    assert {check.name for check in checks if check.mark is Mark.FAIL} == allowed
    for name in ("python", "packages", "clock", "settings", "database", "tables", "bots"):
        assert _found(checks, name, Mark.OK), name


def test_every_finding_that_is_not_fine_says_what_mends_it(database, database_url):
    with database.write() as connection:
        add_bot(connection, config="{}", now_ms=1)
    worrying = [check for check in examine(None, database_url) if check.mark is not Mark.OK]
    assert "bot 1" in {check.name for check in worrying}
    assert all(check.mend for check in worrying)


def test_every_fault_of_the_settings_is_a_line(place):
    (place / "scheduler.toml").write_text('[database]\nurl = "mysql://x"\n[workers]\ncuont = 3\nbatch = 0\n')
    failed = _found(examine(None, None), "settings", Mark.FAIL)
    assert [check.finding.split(":")[0] for check in failed] == [
        "database.url",
        "workers.batch",
        "workers.cuont",
    ]


def test_a_broken_toml_is_a_line_too(place):
    (place / "scheduler.toml").write_text("[database\n")
    assert _found(examine(None, None), "settings", Mark.FAIL)
    assert _found(examine(place / "none.toml", None), "settings", Mark.FAIL)


def test_a_database_that_is_not_there_yet_is_not_made(place):
    checks = tuple(examine(None, "sqlite:///new.db"))
    (check,) = _found(checks, "database", Mark.WARN)
    assert "scheduler db upgrade" in check.mend
    assert not (place / "new.db").exists()


def test_a_missing_folder_is_named():
    assert _found(examine(None, "sqlite:///nowhere/new.db"), "folder", Mark.FAIL)


def test_a_database_without_tables(empty_url):
    if empty_url.startswith("sqlite"):
        sqlite3.connect(empty_url.removeprefix("sqlite:///")).close()
    assert _found(examine(None, empty_url), "tables", Mark.FAIL)


def test_a_file_that_is_no_database(place):
    (place / "letter.db").write_text("Dear madam, " * 500)
    assert _found(examine(None, "sqlite:///letter.db"), "database", Mark.FAIL)


def test_a_damaged_file(sqlite_url):
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    content = bytearray(file.read_bytes())
    content[8192:20480] = os.urandom(12288)
    file.write_bytes(content)
    failed = _found(examine(None, sqlite_url), "database", Mark.FAIL)
    assert failed
    assert "backup" in failed[0].mend


def test_a_server_that_does_not_answer():
    (check,) = _found(examine(None, "postgresql://me:secret@127.0.0.1:1/none"), "database", Mark.FAIL)
    assert "psql" in check.mend
    assert "secret" not in check.finding


def test_a_locked_file(sqlite_url, monkeypatch):
    monkeypatch.setattr("persistence.database.PRAGMAS", ("PRAGMA busy_timeout = 50",))
    holder = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        (check,) = _found(examine(None, sqlite_url), "writing", Mark.FAIL)
    finally:
        holder.close()
    assert "locked" in check.finding


@NOT_ON_WINDOWS
def test_files_that_everybody_may_change(place, sqlite_url):
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    file.chmod(0o666)
    plugins = place / "plugins"
    plugins.mkdir()
    (plugins / "mine.py").write_text("")
    (plugins / "mine.py").chmod(0o666)
    settings = place / "scheduler.toml"
    settings.write_text('[strategies]\nplugins = ["plugins"]\n')
    settings.chmod(0o666)
    checks = tuple(examine(None, sqlite_url))
    assert len(_found(checks, "permissions", Mark.FAIL)) == 2
    assert "mine.py" in _found(checks, "plug-ins", Mark.FAIL)[0].finding


@NOT_ON_WINDOWS
def test_a_password_that_everybody_may_read(place):
    settings = place / "scheduler.toml"
    settings.write_text('[database]\nurl = "postgresql://me:secret@127.0.0.1:1/none"\n')
    settings.chmod(0o644)
    checks = tuple(examine(None, "sqlite:///new.db"))
    assert any("holds a password" in check.finding for check in checks)
    settings.write_text(
        '[database]\n# the password is not kept here\nurl = "postgresql://me@127.0.0.1:1/none"\n'
    )
    assert not any("holds a password" in check.finding for check in examine(None, "sqlite:///new.db"))


@NOT_ON_WINDOWS
def test_secrets_that_everybody_may_read(place):
    file = place / "environment"
    assert list(machine.secrets(file)) == []
    file.write_text("PGPASSWORD=hunter2\n")
    file.chmod(0o644)
    assert [check.mark for check in machine.secrets(file)] == [Mark.FAIL]
    file.chmod(0o600)
    assert [check.mark for check in machine.secrets(file)] == [Mark.OK]


def test_plugins_that_cannot_be_loaded(place, sqlite_url):
    (place / "plugins").mkdir()
    (place / "plugins" / "broken.py").write_text("1 / 0\n")
    (place / "scheduler.toml").write_text('[strategies]\nplugins = ["plugins", "gone"]\n')
    checks = tuple(examine(None, sqlite_url))
    assert "ZeroDivisionError" in _found(checks, "strategies", Mark.FAIL)[0].finding
    assert "gone" in _found(checks, "plug-ins", Mark.FAIL)[0].finding


def test_bots_that_could_not_run(database, database_url):
    good = _healthy_bot(database)
    with database.write() as connection:
        bad = add_bot(connection, config='{"id": "x"}', now_ms=1)
        off = add_bot(connection, config="[]", now_ms=1, enabled=False)
        missing = {**REFERENCE, "data": {"data_source": "csv", "file": "none.csv", "interval": "1h"}}
        lost = add_bot(connection, config=json.dumps(missing), now_ms=1)
    checks = tuple(examine(None, database_url))
    assert "1 of 4" in _found(checks, "bots", Mark.OK)[0].finding
    assert not _found(checks, f"bot {good}", Mark.FAIL)
    assert "symbol: found nothing" in _found(checks, f"bot {bad}", Mark.FAIL)[0].finding
    assert _found(checks, f"bot {off}", Mark.WARN)
    assert "none.csv" in _found(checks, f"bot {lost}", Mark.FAIL)[0].finding


def test_network_shares_are_known_by_their_mount(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path}/with\\040space nfs4 rw 0 0\n")
    share = tmp_path / "with space" / "deep"
    share.mkdir(parents=True)
    assert storage.file_system(share, mounts) == "nfs4"
    assert storage.file_system(tmp_path, mounts) == "ext4"
    assert storage.file_system(tmp_path, tmp_path / "none") == ""


def test_versions_are_compared_with_the_lock(tmp_path):
    lock = tmp_path / "requirements.txt"
    lock.write_text(
        "sqlalchemy==0.1\nccxt==9.9 ; sys_platform == 'win32'\npsycopg[binary]==0.2\n    # via x\n"
    )
    assert machine.locked_versions(lock.read_text()) == {"sqlalchemy": "0.1", "psycopg": "0.2"}
    check = machine.packages(lock)
    assert check.mark is Mark.WARN
    assert "sqlalchemy" in check.finding
    assert "ccxt" not in check.finding


def test_workers_that_do_not_fit_the_machine():
    assert machine.memory(WorkerSettings(count=256, memory_limit_mb=1_000_000)).mark is Mark.WARN
    assert machine.memory(WorkerSettings(count=1, memory_limit_mb=128)).mark is Mark.OK


def test_who_serves_the_database_is_asked_last(sqlite_url):
    checks = tuple(examine(None, sqlite_url))
    assert checks[-1].name == "service"
    assert "not running" in checks[-1].finding


def test_the_report_is_one_line_a_check_and_the_exit_code_says_whether_to_worry(sqlite_url, capsys):
    assert report(examine(None, sqlite_url), as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 7
    assert all(line.startswith(("ok  ", "warn")) for line in lines)
    assert report(examine(None, "sqlite:///nowhere/new.db"), as_json=True) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "doctor/v1"
    assert {"name", "mark", "finding", "mend"} == set(document["checks"][0])
