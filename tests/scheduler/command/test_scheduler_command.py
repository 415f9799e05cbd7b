"""The `scheduler` command around the service: options over settings, the schema, status, doctor."""

import json
import os
import time
from pathlib import Path

import pytest

from persistence import runs
from persistence.bots import add_bot
from persistence.schema.versions import check
from scheduler.command.verbs import grammar, main, settings_of
from strategies.faults import InvalidConfig
from tests.strategies.broken_configs import REFERENCE

NOW = time.time_ns() // 1_000_000


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for key in [key for key in os.environ if key.startswith("ONEBAR_")]:
        monkeypatch.delenv(key)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(name="host-1-1", **changes):
    begun = {"host": "host", "pid": 1, "user_id": None, "role": "leader"}
    begun |= {"started_at": NOW - 5_000, "heartbeat_at": time.time_ns() // 1_000_000}
    return runs.Run(run=name, **{**begun, **changes})


def test_options_stand_over_the_file_and_the_environment(place, monkeypatch):
    (place / "scheduler.toml").write_text("[service]\nuser_id = 1\npoll_interval_s = 9\n")
    monkeypatch.setenv("ONEBAR_DATABASE_URL", "sqlite:///environment.db")
    settings = settings_of(grammar().parse_args(["run", "--user-id", "7", "--poll-interval", "0.5"]))
    assert (settings.service.user_id, settings.service.poll_interval_s) == (7, 0.5)
    assert settings.database.url == "sqlite:///environment.db"
    settings = settings_of(grammar().parse_args(["run", "--db", "sqlite:///option.db"]))
    assert (settings.service.user_id, settings.database.url) == (1, "sqlite:///option.db")


@pytest.mark.parametrize(
    "options", [["--poll-interval", "0"], ["--poll-interval", "nan"], ["--db", "mysql://x"]]
)
def test_options_are_checked_as_the_file_is(options):
    with pytest.raises(InvalidConfig):
        settings_of(grammar().parse_args(["run", *options]))


def test_faults_of_the_settings_are_told_all_at_once(place, capsys):
    (place / "scheduler.toml").write_text("[workers]\ncuont = 1\nbatch = 0\n")
    assert main(["status"]) == 1
    err = capsys.readouterr().err
    assert "workers.cuont" in err
    assert "workers.batch" in err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["statsu"], "status"), (["run", "--no-resum"], "--no-resume"), (["db", "upgrad"], "upgrade")],
)
def test_a_mistyped_word_is_answered_with_the_one_meant(typed, meant, capsys):
    with pytest.raises(SystemExit) as ended:
        main(typed)
    assert ended.value.code == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_db_upgrade_makes_the_tables_and_check_says_whether_they_are_there(empty_url, capsys):
    assert main(["db", "check", "--db", empty_url]) in {1, 5}
    assert main(["db", "upgrade", "--db", empty_url]) == 0
    assert main(["db", "upgrade", "--db", empty_url]) == 0
    assert main(["db", "check", "--db", empty_url]) == 0
    assert check(empty_url) == ()
    assert "has the tables of this version" in capsys.readouterr().out


def test_db_check_makes_no_file(place):
    assert main(["db", "check", "--db", "sqlite:///none.db"]) == 5
    assert list(place.iterdir()) == []


def test_a_schema_of_a_later_version_is_left_alone(database, database_url, capsys):
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert main(["db", "upgrade", "--db", database_url]) == 1
    assert main(["db", "check", "--db", database_url]) == 1
    assert "9999" in capsys.readouterr().err


def test_status_without_a_service_is_3(database, database_url, capsys):
    with database.write() as connection:
        add_bot(connection, config=json.dumps(REFERENCE), now_ms=1)
        add_bot(connection, config="{}", now_ms=1, enabled=False)
    assert main(["status", "--db", database_url]) == 3
    out = capsys.readouterr().out
    assert "not running" in out
    assert "2: 1 disabled, 1 stopped" in out


def test_status_of_a_service_that_runs_is_0_and_json_says_the_same(database, database_url, capsys):
    with database.write() as connection:
        runs.begin_run(connection, _run())
    assert main(["status", "--db", database_url, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "status/v1"
    assert document["service"]["running"] is True
    assert set(document["bots"]) == {
        "total", "by_state", "open_positions", "failing", "last_step_at", "behind", "lag_ms",
    }  # fmt: skip


def test_status_of_a_service_that_is_not_well_is_1(database, database_url, capsys):
    with database.write() as connection:
        runs.begin_run(connection, _run(details=json.dumps({"reasons": ["the loop has not come round"]})))
    assert main(["status", "--db", database_url]) == 1
    assert "the loop has not come round" in capsys.readouterr().out


def test_status_of_a_service_that_died_is_3(database, database_url, capsys):
    with database.write() as connection:
        runs.begin_run(connection, _run(heartbeat_at=NOW - 60_000))
    assert main(["status", "--db", database_url]) == 3
    assert "said nothing" in capsys.readouterr().out


def test_status_of_a_database_that_is_not_there_is_5(capsys):
    assert main(["status", "--db", "postgresql://me:hunter2@127.0.0.1:1/none"]) == 5
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err


def test_the_doctor_is_told_who_serves_the_database(database, database_url, capsys):
    with database.write() as connection:
        runs.begin_run(connection, _run())
    main(["doctor", "--db", database_url])
    assert "leader since" in capsys.readouterr().out


def test_the_document_names_every_command_and_option():
    """docs/commands.md cannot rot: what the grammars have stands there."""
    from jobs.command.arguments import grammar as jobs_grammar

    text = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
    for name, parser in (("jobs", jobs_grammar()), ("scheduler", grammar())):
        for verb in parser.known:
            assert f"`{name} {verb}" in text, f"{name} {verb}"
        for word in parser._words():
            if word.startswith("--") and word != "--help":
                assert word in text, word
