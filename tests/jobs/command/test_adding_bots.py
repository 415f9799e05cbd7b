"""`jobs add` and `jobs validate`: what may run is inserted, what may not is named fault by fault."""

import io
import json
import os
import re
from pathlib import Path

import pytest

from jobs.command import main
from persistence.bots import all_bots
from persistence.database import open_database
from tests.strategies.broken_configs import BROKEN, REFERENCE, text_of


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for key in [key for key in os.environ if key.startswith("ONEBAR_")]:
        monkeypatch.delenv(key)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def reference(place):
    file = place / "bot.json"
    file.write_text(json.dumps(REFERENCE))
    return str(file)


def _bots(url):
    database = open_database(url)
    try:
        with database.read() as connection:
            return all_bots(connection)
    finally:
        database.close()


def test_the_id_is_printed_and_the_row_is_the_file(reference, database_url, capsys):
    assert main(["add", reference, "--db", database_url]) == 0
    captured = capsys.readouterr()
    (bot,) = _bots(database_url)
    assert captured.out == f"{bot.id}\n"
    assert json.loads(bot.config) == REFERENCE
    assert (bot.enabled, bot.type, bot.user_id, bot.status) == (True, "paper", 1, "stopped")


@pytest.mark.parametrize("verb", ["add", "validate"])
def test_a_pipe_by_name_and_an_endless_device_are_refused_at_once(place, capsys, verb):
    os.mkfifo(place / "pipe")
    for file in ("pipe", "/dev/zero"):
        assert main([verb, file]) == 1
        assert "allowed: a regular file\njobs: a pipe is read as -" in capsys.readouterr().err


def test_columns_of_the_row_can_be_given(reference, database_url, capsys):
    options = [
        "--user-id",
        "7",
        "--schedule",
        "*/5 * * * *",
        "--description",
        "a try",
        "--disabled",
        "--json",
    ]
    assert main(["add", reference, "--db", database_url, *options]) == 0
    (bot,) = _bots(database_url)
    assert (bot.user_id, bot.schedule, bot.description, bot.enabled) == (7, "*/5 * * * *", "a try", False)
    added = json.loads(capsys.readouterr().out)
    assert added == {
        "schema": "jobs/v1",
        "kind": "added",
        "bots": [{"id": bot.id, "name": REFERENCE["name"], "file": reference}],
    }


@pytest.mark.parametrize(
    "cron", ["* * * *", "every day", "1 2 3 4 5 6", "61 * * * *;rm", "99 99 * * *", "0 0 30 2 *", ""]
)
def test_a_schedule_that_is_no_cron_adds_nothing(reference, sqlite_url, cron, capsys):
    assert main(["add", reference, "--db", sqlite_url, "--schedule", cron]) == 1
    assert re.search(r"schedule: found .*, allowed: five fields of cron", capsys.readouterr().err)
    assert _bots(sqlite_url) == ()
    assert main(["add", reference, "--db", "sqlite:///new.db", "--schedule", cron]) == 1
    assert not Path("new.db").exists()


@pytest.mark.parametrize("cron", ["@daily", "0 9 * * mon-fri", "CRON_TZ=Europe/Berlin 0 9 * * 1-5"])
def test_a_schedule_of_cron_is_kept_as_it_is(reference, sqlite_url, cron):
    assert main(["add", reference, "--db", sqlite_url, "--schedule", cron]) == 0
    assert _bots(sqlite_url)[0].schedule == cron


def test_a_file_that_is_off_is_added_off(place, sqlite_url):
    (place / "off.json").write_text(json.dumps({**REFERENCE, "enabled": False}))
    assert main(["add", "off.json", "--db", sqlite_url]) == 0
    assert not _bots(sqlite_url)[0].enabled


def test_standard_input_is_a_dash(database_url, monkeypatch, capsys):
    class Stdin:
        buffer = io.BytesIO(json.dumps(REFERENCE).encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    assert main(["add", "-", "--db", database_url]) == 0
    assert capsys.readouterr().out.strip().isdigit()


def test_one_broken_file_adds_none(reference, place, database_url, capsys):
    (place / "broken.json").write_text('{"id": "x"}')
    assert main(["add", reference, "broken.json", "--db", database_url]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "broken.json: symbol: found nothing" in captured.err
    assert "nothing was added" in captured.err
    assert _bots(database_url) == ()


def test_a_first_bot_needs_no_other_command(reference, place, capsys):
    assert main(["add", reference, "--db", "sqlite:///new.db"]) == 0
    assert len(_bots(f"sqlite:///{place / 'new.db'}")) == 1
    assert "made new.db" in capsys.readouterr().err


def test_tables_that_are_missing_elsewhere_are_not_made_silently(reference, place, capsys):
    (place / "empty.db").write_bytes(b"")
    assert main(["add", reference, "--db", "sqlite:///empty.db"]) == 1
    assert "scheduler db upgrade" in capsys.readouterr().err


def test_files_that_cannot_be_read(place, sqlite_url, capsys):
    assert main(["add", "none.json", "--db", sqlite_url]) == 1
    assert "none.json: No such file" in capsys.readouterr().err
    (place / "latin.json").write_bytes('{"name": "Mün"}'.encode("latin-1"))
    assert main(["validate", "latin.json"]) == 1
    assert "JSON in UTF-8" in capsys.readouterr().out


def test_a_byte_order_mark_is_no_fault(place, capsys):
    (place / "bom.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(REFERENCE).encode())
    assert main(["validate", "bom.json"]) == 0
    assert capsys.readouterr().out == "bom.json: valid\n"


def test_validate_needs_no_database(reference, place, capsys):
    assert main(["validate", reference, "--db", "postgresql://nobody@127.0.0.1:1/none"]) == 0
    assert capsys.readouterr().out == f"{reference}: valid\n"
    assert sorted(path.name for path in place.iterdir()) == ["bot.json"]


def test_every_fault_is_a_line_with_path_found_and_allowed(place, capsys):
    broken = {**REFERENCE, "symbol": "btcusdt", "broker": {"cash": -5, "typ": "x"}}
    (place / "broken.json").write_text(json.dumps(broken))
    assert main(["validate", "broken.json"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split(": ")[1] for line in lines) == ["broker.cash", "broker.typ", "symbol"]
    assert all("found " in line and ", allowed: " in line for line in lines)
    assert main(["validate", "broken.json", "--json"]) == 1
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert (file["file"], file["valid"], len(file["faults"])) == ("broken.json", False, 3)
    assert set(file["faults"][0]) == {"path", "found", "allowed"}


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_each_broken_configuration_is_refused_with_its_message(case, place, sqlite_url, capsys):
    """Bad input: at least 60 broken configurations, each with the message expected (R1.2, R8.1)."""
    (place / "broken.json").write_text(text_of(case), encoding="utf-8", errors="surrogatepass")
    assert main(["add", "broken.json", "--db", sqlite_url]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    for path, found, allowed in case.faults:
        lines = [line for line in captured.err.splitlines() if line.startswith(f"broken.json: {path}")]
        assert any(found in line and allowed in line for line in lines), (path, captured.err)
    assert _bots(sqlite_url) == ()


def test_the_table_of_broken_configurations_is_long_enough():
    assert len(BROKEN) >= 60


@pytest.mark.parametrize(
    ("data", "path", "allowed"),
    [
        ({"data_source": "csv", "file": "none.csv", "interval": "1h"}, "data.file", "none.csv"),
        ({"data_source": "binanse", "interval": "1h"}, "data.data_source", "did you mean binance"),
        ({"data_source": "binance", "interval": "7m"}, "data.interval", "15m"),
    ],
)
def test_a_source_that_cannot_be_is_a_fault(place, data, path, allowed, capsys):
    """R8.2: the source is checked when a bot is added, and nobody is asked over the network."""
    (place / "lost.json").write_text(json.dumps({**REFERENCE, "data": data}))
    assert main(["validate", "lost.json"]) == 1
    out = capsys.readouterr().out
    assert f"lost.json: {path}: found " in out
    assert allowed in out


def test_a_strategy_of_a_plugin_folder_is_found_and_a_broken_one_named(place, capsys):
    (place / "scheduler.toml").write_text('[strategies]\nplugins = ["mine"]\n')
    (place / "mine").mkdir()
    (place / "mine" / "good.py").write_text("import backtrader as bt\nclass Good(bt.Strategy):\n    pass\n")
    (place / "mine" / "bad.py").write_text("import nothing_like_it\n")
    (place / "mine" / "open.py").write_text(
        "import backtrader as bt\nclass Open(bt.Strategy):\n"
        "    def __init__(self):\n        self.file = (each for each in ())\n"
    )
    for name, strategy in (("good", "good:Good"), ("bad", "bad:Bad"), ("open", "open:Open")):
        config = {**REFERENCE, "strategy": {"type": strategy, "parameters": {}}}
        (place / f"{name}.json").write_text(json.dumps(config))
    assert main(["validate", "good.json"]) == 0
    assert main(["validate", "bad.json"]) == 1
    assert "nothing_like_it" in capsys.readouterr().out
    assert main(["validate", "open.json"]) == 1
    assert "strategy.file" in capsys.readouterr().out
