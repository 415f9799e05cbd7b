"""A secret that was put in a wrong place is in no output, log or row but the one it was put into (R8.4)."""

import json
import logging
import os
import sqlite3

import pytest

from jobs.command import main as jobs
from scheduler.command import main as scheduler
from tests.strategies.broken_configs import REFERENCE

CANARY = "hunter2canary9"
URLS = (
    f"postgresql:/me:{CANARY}@localhost/db",
    f"postgresq://me:{CANARY}@localhost/db",
    f"postgres:me:{CANARY}@localhost/db",
    f"mysql://me:{CANARY}@localhost/db",
    f"mysql://localhost/db?passwd={CANARY}",
    f"postgresql://localhost:1/db?passwd={CANARY}",
    f"postgresql://localhost:1/db?password={CANARY}",
    f"postgresql://me:{CANARY}@localhost:1/db",
    f"postgresql://me:{CANARY}",
    f"postgresql://me:x/{CANARY}@localhost:1/db",
    f"postgresql://me:x@{CANARY}@localhost:1/db",
    f"postgresql://me:x#{CANARY}@localhost:1/db",
    f"postgresql://me:x?{CANARY}@localhost:1/db",
    f"sqlite://me:{CANARY}@localhost/db",
    f"host=localhost user=me password={CANARY}",
    f"me:{CANARY}@localhost",
)
WRONG = (
    {"broker": {"api_key": CANARY}},
    {"broker": {"apiKey": CANARY}},
    {"broker": {"key_of_the_account": CANARY}},
    {"broker": {"cash": {"api_secret": CANARY}}},
    {"broker": {"cash": [{"Password": CANARY}]}},
    {"broker": f'{{"api_key": "{CANARY}"}}'},
    {"broker": {"name": 5, "type": f"https://me:{CANARY}@binance"}},
    {"notifications": {"telegram_token": CANARY, "email": {"passwd": CANARY}}},
    {"strategy": {"type": "CustomStrategy", "parameters": {"token": CANARY, "whatever": CANARY}}},
    {"unheard_of": {"deep": [CANARY]}},
    {"exchange_credentials": [CANARY]},
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for key in [key for key in os.environ if key.startswith("ONEBAR_")]:
        monkeypatch.delenv(key)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capfd, main, *arguments):
    """Run a command and return all that it says, wherever it says it."""
    try:
        code = main(list(arguments))
    except SystemExit as exc:
        code = exc.code
    out, err = capfd.readouterr()
    return code, out + err


COMMANDS = [
    (jobs, "list"),
    (jobs, "show", "1", "--json"),
    (jobs, "pause", "1"),
    (jobs, "edit", "1", "name=x"),
    (jobs, "validate", "bot.json"),
    (jobs, "add", "bot.json"),
    (scheduler, "status"),
    (scheduler, "db", "check"),
    (scheduler, "db", "upgrade"),
    (scheduler, "doctor"),
    (scheduler, "doctor", "--json"),
    (scheduler, "replay", "--from", "2024-01-01", "--to", "2024-01-02"),
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("way", ["option", "environment", "nested", "file"])
def test_a_mistyped_url_is_told_without_its_password(place, monkeypatch, capfd, url, way):
    (place / "bot.json").write_text(json.dumps(REFERENCE))
    if way == "environment":
        monkeypatch.setenv("ONEBAR_DATABASE_URL", url)
    elif way == "nested":
        monkeypatch.setenv("ONEBAR_DATABASE__URL", url)
    elif way == "file":
        (place / "scheduler.toml").write_text(f"[database]\nurl = {json.dumps(url)}\n")
    # The same few words for all URLs; every command for one of each way.
    few = COMMANDS if url in URLS[:1] else [COMMANDS[0], COMMANDS[7]]
    for main, *arguments in few:
        options = ["--db", url] if way == "option" and arguments[0] != "validate" else []
        code, text = said(capfd, main, *arguments, *options)
        assert CANARY not in text, arguments
        assert code or arguments[0] == "validate", text


def test_the_run_of_the_service_tells_no_password(monkeypatch, capfd):
    for url in URLS[:4]:
        monkeypatch.setenv("ONEBAR_DATABASE_URL", url)
        code, text = said(capfd, scheduler, "run")
        assert code
        assert CANARY not in text


@pytest.mark.parametrize(
    "name",
    ["ONEBAR_DATABASE__PASSWORD", "ONEBAR_DATABASE", "ONEBAR_SERVICE__TOKEN", "ONEBAR_SERVICE__LOG_FORMAT"],
)
def test_an_environment_variable_of_a_wrong_name_is_told_without_its_value(monkeypatch, capfd, name):
    value = f"password={CANARY}" if name.endswith("FORMAT") else CANARY
    monkeypatch.setenv(name, value)
    for arguments in (["status"], ["doctor"], ["doctor", "--json"]):
        code, text = said(capfd, scheduler, *arguments)
        assert code
        assert CANARY not in text
        assert "found" in text, "the fault is told all the same"


def test_what_was_given_in_a_wrong_place_of_the_command_is_not_repeated(capfd):
    for arguments in (
        ["list", f"--dbb=postgresql://me:{CANARY}@h/db"],
        ["edit", "1", f"api_key:{CANARY}"],
        ["pause", f"token={CANARY}"],
    ):
        code, text = said(capfd, jobs, *arguments)
        assert code
        assert CANARY not in text


@pytest.mark.parametrize("wrong", WRONG, ids=json.dumps)
def test_a_secret_under_a_key_that_nobody_knows_is_in_no_sink(place, capfd, wrong):
    """Faults of commands in every format, of the doctor, lists of the row, and of a replay."""
    url = f"sqlite:///{place / 'onebar.db'}"
    text = json.dumps({**REFERENCE, **wrong})
    (place / "bot.json").write_text(text)
    for form in ("table", "json", "jsonl", "csv", "name"):
        for verb in ("validate", "add"):
            code, told = said(capfd, jobs, verb, "bot.json", "-o", form)
            assert code == 1
            assert CANARY not in told
    assert scheduler(["db", "upgrade", "--db", url]) == 0
    with sqlite3.connect(place / "onebar.db") as connection:
        connection.execute("INSERT INTO trading_bots (config) VALUES (?)", (text,))
    looks = [(jobs, "list", "-o", form) for form in ("table", "wide", "json", "jsonl", "csv")]
    looks += [(scheduler, "doctor"), (scheduler, "doctor", "--json"), (scheduler, "status", "--json")]
    looks += [(scheduler, "replay", "--from", "2021-05-01", "--to", "2021-05-02")]
    looks += [(jobs, "list", "-o", "wide"), (jobs, "edit", "1", f"broker.api_key={CANARY}", "-o", "json")]
    for main, *arguments in looks:
        _, told = said(capfd, main, *arguments, "--db", url)
        assert CANARY not in told, arguments
    with sqlite3.connect(place / "onebar.db") as connection:
        assert CANARY not in str(connection.execute("SELECT last_error FROM trading_bots").fetchall())
        assert CANARY not in str(connection.execute("SELECT * FROM notifications").fetchall())
    logging.getLogger().handlers.clear()
