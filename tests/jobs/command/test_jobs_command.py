"""The `jobs` command on real databases of both kinds: what it prints, what it changes, how it ends."""

import csv
import io
import json
import re
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jobs.command import main
from persistence.bots import add_bot, get_bot, start_bot
from tests.jobs.command.ledgers import BEGIN, buying, config_text, insert_bar, insert_bot, quiet, selling


@pytest.fixture
def jobs(database_url, capsys):
    """Run `jobs ...` on the test's database; return exit code, stdout, stderr."""

    def run(*arguments):
        code = main([*arguments, "--db", database_url])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def _row(database, bot_id):
    with database.read() as connection:
        return get_bot(connection, bot_id)


def test_list_has_the_columns_that_the_document_names(jobs, database):
    bot_id = insert_bot(database)
    insert_bar(database, bot_id, 0, quiet())
    code, out, err = jobs("list")
    header, line = out.splitlines()
    assert re.split(r"  +", header) == [
        "ID", "BOT", "SYMBOL", "TF", "STATE", "LAST BAR", "LAST", "TOOK", "NEXT", "IN", "FAILS",
    ]  # fmt: skip
    assert line.split()[:4] == [str(bot_id), "RSI+ATR", "BTC", "Paper"]
    assert " 1h " in line
    assert " 2021-01-01 00:00 " in line
    assert " ago " in line
    assert " 1.5 ms " in line
    assert (code, err) == (0, "")


def test_wide_adds_account_and_position(jobs, database):
    bot_id = insert_bot(database)
    insert_bar(database, bot_id, 0, buying())
    _, out, _ = jobs("list", "-o", "wide")
    header, line = out.splitlines()
    assert header.endswith(
        "STRATEGY        MODE   POSITION            UNREAL.PNL  EQUITY   PNL    LAG  BARS  REV  ERROR"
    )
    assert "long 0.001 @ 30000" in line
    assert " 0.50  100.50  0.00 " in line  # equity less the cash of the beginning, 100


def test_an_empty_table_prints_its_header_and_says_so(jobs):
    code, out, err = jobs("list")
    assert (code, len(out.splitlines()), err) == (0, 1, "no bots\n")


def test_rows_can_be_filtered_and_written_for_programs(jobs, database):
    first, second, third = (insert_bot(database, user_id=user) for user in (1, 1, 2))
    jobs("pause", str(second))
    assert jobs("list", "--state", "paused", "-o", "name")[1] == f"{second}\n"
    assert jobs("list", "--user-id", "2", "-o", "name")[1] == f"{third}\n"
    lines = jobs("list", "-o", "jsonl")[1].splitlines()
    assert [json.loads(line)["id"] for line in lines] == [first, second, third]
    rows = list(csv.DictReader(io.StringIO(jobs("list", "-o", "csv")[1])))
    assert [row["paused"] for row in rows] == ["false", "true", "false"]
    assert json.loads(rows[0]["positions"]) == []


def test_next_is_known_for_a_bot_with_a_cron_expression(jobs, database):
    """From its row alone, whether or not a service has put it on its schedule."""
    bot_id = insert_bot(database, schedule="CRON_TZ=Europe/Berlin 0 9 * * *")
    with database.write() as connection:
        start_bot(connection, bot_id, now_ms=BEGIN)
    (bot,) = json.loads(jobs("list", "--json")[1])["bots"]
    following = datetime.fromisoformat(bot["next_at"]).astimezone(ZoneInfo("Europe/Berlin"))
    assert (following.hour, following.minute, following.second) == (9, 0, 1), "the bar has to settle"
    assert timedelta() < following - datetime.now(UTC) < timedelta(hours=25)
    assert jobs("list")[1].splitlines()[1].split()[-2] != "-"


def test_json_follows_the_documented_schema(jobs, database):
    """The fields are those of docs/commands.md, which a program may rely on."""
    bot_id = insert_bot(database)
    insert_bar(database, bot_id, 0, buying())
    insert_bar(database, bot_id, 1, selling())
    listed = json.loads(jobs("list", "--json")[1])
    assert (listed["schema"], listed["kind"]) == ("jobs/v1", "list")
    (bot,) = listed["bots"]
    assert set(bot) == _documented("bot")
    assert (bot["last_bar"], bot["took_ms"], bot["bars"]) == ("2021-01-01T01:00:00Z", 1.5, 2)
    assert (bot["equity"], bot["realized_pnl"], bot["unrealized_pnl"]) == ("100.94", "0.94", "0.00")
    trades = json.loads(jobs("trades", str(bot_id), "--json")[1])
    (trade,) = trades["trades"]
    assert set(trade) == _documented("trade")
    assert (trade["net_pnl"], trade["entry_price"], trade["exit_reason"]) == (
        "0.94",
        "30000.0",
        "take profit",
    )
    history = json.loads(jobs("history", str(bot_id), "--json")[1])
    assert [step["bar"] for step in history["steps"]] == ["2021-01-01T00:00:00Z", "2021-01-01T01:00:00Z"]
    assert set(history["steps"][0]) == _documented("step")
    assert history["steps"][0]["positions"] == {"BTCUSDT": ["0.001", "30000.0"]}
    whole = json.loads(jobs("show", str(bot_id), "--json")[1])["bot"]
    assert whole["config"]["symbol"] == "BTCUSDT"


def _documented(kind):
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
    (fields,) = re.findall(rf"^- \*{kind}\*: (.*?)(?=^- |^$)", text, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([a-z_]+)`", re.sub(r"\([^)]*\)", "", fields)))


def test_trades_and_history_are_tables_for_people(jobs, database):
    bot_id = insert_bot(database)
    insert_bar(database, bot_id, 0, buying())
    insert_bar(database, bot_id, 1, selling())
    _, out, _ = jobs("trades", str(bot_id))
    assert re.split(r"  +", out.splitlines()[1].strip()) == [
        "1", "BTCUSDT", "long", "0.001", "2021-01-01 00:00", "30000", "2021-01-01 01:00", "31000", "1",
        "0.94", "take profit",
    ]  # fmt: skip
    _, out, _ = jobs("history", str(bot_id), "-n", "1", "--iso")
    (line,) = out.splitlines()[1:]
    assert line.startswith("2021-01-01T01:00:00Z  20")


def test_pause_and_resume_change_the_row_and_say_what_was(jobs, database):
    bot_id = insert_bot(database)
    assert jobs("pause", str(bot_id), "--reason", "news")[:2] == (0, f"bot {bot_id}: paused\n")
    assert _row(database, bot_id).paused
    assert jobs("pause", str(bot_id))[:2] == (0, f"bot {bot_id}: was paused already\n")
    assert jobs("resume", str(bot_id))[:2] == (0, f"bot {bot_id}: resumed\n")
    assert not _row(database, bot_id).paused


def test_start_stop_and_restart_change_the_row_and_say_what_was(jobs, database):
    bot_id = insert_bot(database)
    assert jobs("start", str(bot_id))[:2] == (0, f"bot {bot_id}: was enabled already\n")
    assert jobs("stop", str(bot_id), "--reason", "news")[:2] == (0, f"bot {bot_id}: stopped\n")
    assert not _row(database, bot_id).enabled
    assert jobs("stop", "--all")[:2] == (0, f"bot {bot_id}: was disabled already\n")
    changed = json.loads(jobs("restart", str(bot_id), "--json")[1])
    assert changed == {
        "schema": "jobs/v1", "kind": "changes", "action": "restart",
        "bots": [{"id": bot_id, "result": "done"}],
    }  # fmt: skip
    assert _row(database, bot_id).enabled


def test_edit_says_what_was_and_what_is(jobs, database, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bot_id = insert_bot(database)
    wishes = ("data.interval=15m", "schedule=*/5 * * * *", "risk_management.max_daily_trades=4")
    code, out, err = jobs("edit", str(bot_id), *wishes)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f'bot {bot_id}: data.interval: "1h" -> "15m"',
        f'bot {bot_id}: schedule: null -> "*/5 * * * *"',
        f"bot {bot_id}: risk_management.max_daily_trades: 5 -> 4",
    ]
    assert jobs("edit", str(bot_id), *wishes)[:2] == (0, f"bot {bot_id}: was so already\n")
    edited = json.loads(jobs("edit", str(bot_id), "schedule=", "description=7", "--json")[1])
    assert (edited["kind"], edited["bot_id"]) == ("edited", bot_id)
    assert edited["changes"] == [
        {"path": "schedule", "old": "*/5 * * * *", "new": None},
        {"path": "description", "old": "", "new": "7"},
    ]
    before = _row(database, bot_id)
    code, out, err = jobs("edit", str(bot_id), "schedule=99 99 * * *", "data.interval=7x")
    assert (code, out) == (1, "")
    assert "data.interval: found" in err
    assert "schedule: found" in err
    assert jobs("edit", str(bot_id), "nonsense")[0] == 2
    assert jobs("edit", "999999", "description=x")[0] == 4
    assert _row(database, bot_id) == before


def test_the_audit_log_says_who_paused_and_why(jobs, database):
    bot_id = insert_bot(database)
    jobs("pause", str(bot_id), "--reason", "news")
    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT actor, reason FROM audit_log ORDER BY id").all()
    assert [tuple(row) for row in rows if row[1] == "news"]
    assert all(row[0].startswith("jobs:") for row in rows if row[1] == "news")


def test_an_unknown_number_ends_with_4_and_the_others_are_done(jobs, database):
    bot_id = insert_bot(database)
    code, out, err = jobs("pause", "999999", str(bot_id))
    assert (code, out, err) == (4, f"bot {bot_id}: paused\n", "bot 999999: no such bot\n")
    assert _row(database, bot_id).paused
    for command in ("show", "trades", "history"):
        assert jobs(command, "999999")[0] == 4


def test_all_bots_at_once(jobs, database):
    ids = [insert_bot(database) for _ in range(3)]
    assert jobs("pause", "--all")[0] == 0
    assert all(_row(database, bot_id).paused for bot_id in ids)
    assert jobs("pause")[0] == 2
    assert jobs("pause", "--all", str(ids[0]))[0] == 2


def test_remove_asks_and_nobody_there_is_no_yes(jobs, database):
    bot_id = insert_bot(database)
    code, out, err = jobs("remove", str(bot_id))
    assert (code, out) == (6, "")
    assert "--yes" in err
    assert jobs("remove", str(bot_id), "--yes")[:2] == (0, f"bot {bot_id}: removed\n")
    assert _row(database, bot_id) is None


def test_a_bot_with_an_open_position_is_removed_only_by_force(jobs, database):
    bot_id = insert_bot(database)
    insert_bar(database, bot_id, 0, buying())
    code, _, err = jobs("remove", str(bot_id), "--yes")
    assert code == 6
    assert "holds a position: long 0.001 BTCUSDT" in err
    assert jobs("remove", str(bot_id), "--yes", "--force")[0] == 0


@pytest.mark.parametrize("config", ['{"data": 7}', "[]", '"text"', "{}"])
def test_a_broken_row_hides_no_other(jobs, database, config):
    """R1.4: rows that plain SQL has broken are shown as they are."""
    good, bad = insert_bot(database), insert_bot(database, config=config)
    code, out, _ = jobs("list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [str(good), str(bad)]
    assert jobs("show", str(bad))[0] == 0


def test_secrets_of_a_configuration_are_not_shown(jobs, database):
    text = config_text(broker={"type": "binance", "api_secret": "hunter2"})
    bot_id = insert_bot(database, config=text)
    for arguments in (("show", str(bot_id)), ("show", str(bot_id), "--json"), ("list", "-o", "wide")):
        code, shown, _ = jobs(*arguments)
        assert (code, "BTCUSDT" in shown) == (0, True)
        assert "hunter2" not in shown


def test_a_database_that_is_not_there_is_not_made(tmp_path, capsys):
    file = tmp_path / "none.db"
    assert main(["list", "--db", f"sqlite:///{file}"]) == 5
    assert not file.exists()
    assert str(file) in capsys.readouterr().err
    assert main(["list", "--db", "postgresql://nobody@127.0.0.1:1/none"]) == 5
    assert main(["list", "--db", "mysql://nobody@127.0.0.1/none"]) == 2


def test_a_database_without_tables_says_what_makes_them(empty_url, capsys):
    if empty_url.startswith("sqlite"):
        sqlite3.connect(empty_url.removeprefix("sqlite:///")).close()
    assert main(["list", "--db", empty_url]) in {1, 5}
    err = capsys.readouterr().err
    assert "scheduler" in err


def test_a_locked_database_means_try_again(sqlite_url, capsys, monkeypatch):
    monkeypatch.setattr("persistence.console.PRAGMAS", ("PRAGMA busy_timeout = 50",))
    monkeypatch.setattr("persistence.console.BUSY_TIMEOUT_MS", 50)
    holder = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        assert main(["pause", "1", "--db", sqlite_url]) == 75
    finally:
        holder.close()
    assert "try again" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(database):
    """`jobs list | head`: more than a pipe holds, and nobody reads it."""
    with database.write() as connection:
        for _ in range(300):
            add_bot(connection, config=config_text(), now_ms=1)
    program = f"import sys; from jobs.command import main; sys.exit(main([{LIST_LINES}, sys.argv[1]]))"
    shell = f'"{sys.executable}" -c "$0" "$1" | head -1'
    command = ["sh", "-c", shell, program, database.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


LIST_LINES = "'list', '-o', 'jsonl', '--db'"
LOOKS = ("show", "trades", "history")
MOVES = ("start", "stop", "restart", "pause", "resume")
FAST = (("list",), *((verb, "1") for verb in (*LOOKS, *MOVES)))
HEAVY = (
    "sqlalchemy", "pandas", "ccxt", "backtrader", "pydantic", "alembic", "typer", "rich", "numpy",
    "apscheduler",
)  # fmt: skip
PROGRAM = """
import resource, sys
from jobs.command import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print("cpu", used.ru_utime + used.ru_stime, file=sys.stderr)
print("modules", *sys.modules, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("arguments", [*FAST, ("remove", "1", "--yes")], ids=lambda words: words[0])
def test_the_fast_commands_import_nothing_heavy(database, arguments):
    """`jobs list` stays under half a second of CPU because none of these is imported; CPU is printed."""
    bot_id = insert_bot(database)
    command = [str(bot_id) if word == "1" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command, "--db", database.url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cpu, modules = (line.split()[1:] for line in done.stderr.splitlines()[-2:])
    print(f"{database.dialect} jobs {arguments[0]}: {cpu[0]} s CPU")
    assert not set(HEAVY) & set(modules)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://me:hunter2@[::1/db", 2),
        ("postgresql://me:hunter2@host:port/db", 2),
        ("postgresql://me:hunter2@127.0.0.1:1/db?nonsense=1", 5),
        ("postgresql://me:hunter2@127.0.0.1:1/db", 5),
        ("sqlite://file.db", 2),
        ("file.db", 2),
        ("sqlite:///", 5),
    ],
)
def test_a_url_that_leads_nowhere_is_told_without_its_password(url, code, capsys):
    assert main(["list", "--db", url]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hunter2" not in captured.err
    assert "Traceback" not in captured.err


def test_a_file_of_another_kind_is_told(tmp_path, capsys):
    (tmp_path / "letter.db").write_text("Dear madam, " * 500)
    assert main(["list", "--db", f"sqlite:///{tmp_path / 'letter.db'}"]) == 5
    assert "not a database" in capsys.readouterr().err
