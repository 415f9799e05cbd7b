"""How times, tables, URLs and rows of any content are written for people and programs."""

import json
import sqlite3

import pytest

from jobs.command import main
from jobs.command.endings import Ending
from jobs.command.grammar import Grammar
from jobs.command.judgement import ending_of
from jobs.command.location import database_url, settle_ms
from jobs.command.moments import bar_name, exact, iso, parse_moment, shown, span, took
from jobs.command.table import Column, aligned, as_csv
from jobs.desk.outline import masked, outline
from persistence import schema
from strategies.secrecy import HIDDEN, is_secret, shown_url, without_secrets

NOON = 1_637_496_000_000  # 2021-11-21T12:00:00Z


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0, "0s"),
        (999, "0s"),
        (59_999, "59s"),
        (60_000, "1m"),
        (7_199_999, "119m"),
        (7_200_000, "2h"),
        (172_800_000, "2d"),
    ],
)
def test_spans_use_the_largest_unit_that_says_enough(length, text):
    assert span(length) == text


def test_times_are_relative_unless_asked_otherwise():
    assert shown(NOON - 12_000, NOON, "relative") == "12s ago"
    assert shown(NOON + 180_000, NOON, "relative") == "in 3m"
    assert shown(NOON, NOON, "utc") == "2021-11-21 12:00:00"
    assert shown(NOON + 5, NOON, "iso") == "2021-11-21T12:00:00.005Z"
    assert shown(None, NOON, "iso") == "-"


def test_a_bar_of_today_is_named_by_its_time_only():
    assert bar_name(NOON - 60_000, NOON, "relative") == "11:59"
    assert bar_name(NOON - 1_000, NOON, "relative") == "11:59:59"
    assert bar_name(NOON - 86_400_000, NOON, "relative") == "11-20 12:00"
    assert bar_name(NOON - 365 * 86_400_000, NOON, "relative") == "2020-11-21 12:00"
    assert bar_name(NOON, NOON, "iso") == iso(NOON)
    assert exact(NOON, "utc") == "2021-11-21 12:00:00"


@pytest.mark.parametrize(
    ("length", "text"), [(None, "-"), (0.4, "0.4 ms"), (12.3, "12.3 ms"), (2_500.0, "2.5 s")]
)
def test_how_long_a_step_took(length, text):
    assert took(length) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2021-11-21T12:00", NOON),
        ("2021-11-21T12:00:00Z", NOON),
        ("2021-11-21T13:00+01:00", NOON),
        ("2021-11-21", NOON - 43_200_000),
    ],
)
def test_moments_are_utc_unless_they_name_an_offset(text, moment):
    assert parse_moment(text) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "21.11.2021", "1637496000000"])
def test_a_moment_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_moment(text)


def test_columns_are_aligned_and_nothing_in_a_cell_can_move_the_cursor():
    columns = (Column("ID", right=True), Column("BOT"))
    text = aligned(columns, [["1", "a\x1b[2Jb"], ["12", "two\nlines"]])
    assert text.splitlines() == ["ID  BOT", " 1  a\\x1b[2Jb", "12  two\\nlines"]


def test_only_the_state_is_tinted_and_only_if_asked():
    row = [["running", "running late"]]
    assert "\x1b" not in aligned((Column("A"), Column("B")), row)
    assert aligned((Column("A"), Column("B")), row, color=True).count("\x1b[32m") == 1


def test_csv_quotes_what_needs_it():
    assert as_csv(["a", "b"], [["x,y", None]]) == 'a,b\n"x,y",'


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://me:p@ss:w@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql:/me:secret@host/db", "postgresql:/me:***@host/db"),
        ("postgresq//me:secret@host/db", "***:***@host/db"),
        ("postgresql:me:secret@host/db", "postgresql:***:***@host/db"),
        ("mysql://me:sec/ret?x@host/db", "mysql://me:***@host/db"),
        ("mysql://host/db?passwd=secret", "mysql://host/db?passwd=***"),
        ("postgresql://me:secret", "postgresql://me:***"),
        ("sqlite:////var/lib/a.db", "sqlite:////var/lib/a.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url, safe):
    assert shown_url(url) == safe


@pytest.mark.parametrize("config", ["", "{", "[]", "null", '{"data": 3}', '{"name": 7}', "[" * 100_000])
def test_a_broken_row_is_listed_with_dashes(config):
    seen = outline(config)
    assert (seen.name, seen.symbol, seen.length, seen.cash) == ("-", "-", None, None)


def test_secrets_in_a_configuration_are_never_shown():
    config = {"broker": {"api_key": "k1", "api_secret": "k2", "name": "n"}, "list": [{"Password": "k3"}]}
    text = json.dumps(masked(json.dumps(config)))
    assert not any(secret in text for secret in ("k1", "k2", "k3"))
    assert text.count(HIDDEN) == 3


def test_the_database_is_found_in_the_order_that_the_document_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ONEBAR_DATABASE_URL", raising=False)
    assert database_url(None, None) == "sqlite:///onebar.db"
    (tmp_path / "scheduler.toml").write_text(
        '[database]\nurl = "sqlite:///file.db"\n[markets]\nsettle_ms = 7\n'
    )
    assert database_url(None, None) == "sqlite:///file.db"
    assert settle_ms(None) == 7
    monkeypatch.setenv("ONEBAR_DATABASE__URL", "sqlite:///nested.db")
    assert database_url(None, None) == "sqlite:///nested.db"
    monkeypatch.setenv("ONEBAR_DATABASE_URL", "sqlite:///env.db")
    assert database_url(None, None) == "sqlite:///env.db"
    assert database_url("sqlite:///option.db", None) == "sqlite:///option.db"


@pytest.mark.parametrize(("typed", "meant"), [("lst", "list"), ("pasue", "pause")])
def test_a_mistyped_command_is_answered_with_the_one_meant(typed, meant, capsys):
    parser = Grammar(prog="jobs")
    add = parser.verbs(dest="verb")
    add("list")
    add("pause")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([typed])
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert f"did you mean {meant}?" in captured.err
    assert captured.out == ""


def test_a_mistyped_option_is_answered_with_the_one_meant(capsys):
    parser = Grammar(prog="jobs")
    parser.verbs(dest="verb")("list").add_argument("--state")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["list", "--stat", "x"])
    assert ended.value.code == 2
    assert "did you mean --state?" in capsys.readouterr().err


HOSTILE = "\x1b[2Jx\u202ey\u2066z\u200b\u2028\x9b31m\r=1"


@pytest.mark.parametrize("form", ["table", "wide", "json", "jsonl", "csv", "name"])
def test_no_format_lets_a_row_act_on_the_terminal(tmp_path, monkeypatch, capsys, form):
    """Escapes, directions, zero widths, separators: as text in all of them, and the same data in JSON."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'x.db'}"
    schema.upgrade(url)
    with sqlite3.connect(tmp_path / "x.db") as connection:
        config = json.dumps({"name": HOSTILE, "symbol": HOSTILE})
        connection.execute("INSERT INTO trading_bots (config, description) VALUES (?, ?)", (config, HOSTILE))
    for verb in (["list"], ["show", "1"]):
        assert main([*verb, "--db", url, "-o", form]) == 0
        out, err = capsys.readouterr()
        assert (out + err).replace("\n", "").isprintable()
        if form == "json":
            found = json.loads(out)
            bot = found["bots"][0] if verb == ["list"] else found["bot"]
            assert (bot["name"], bot["description"]) == (HOSTILE, HOSTILE)


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "\t=1", "\r=1", " =1", "\uff1d1", "-1-cmd|x"])
def test_a_spreadsheet_computes_no_text(text):
    assert as_csv(["a"], [[text]], headers=False).lstrip('"')[0] in {"'", "\\"}


@pytest.mark.parametrize("number", ["-12.5", "+3", "1e-05", "-1E-7", "0"])
def test_numbers_stay_numbers_in_a_spreadsheet(number):
    assert as_csv(["a"], [[number]], headers=False) == number


def test_hidden_are_words_and_not_their_neighbours():
    """What people need to see of their own rows stays."""
    for key in ("position_size", "max_tokyo", "author", "keys_seen", "signal", "pinned", "period", "name"):
        assert not is_secret(key), key
    for key in (
        "api_key",
        "apiKey",
        "API-KEY",
        "Secret",
        "dbPasswd",
        "bot_token",
        "pwd",
        "key",
        "db_dsn",
        "pin",
    ):
        assert is_secret(key), key
    assert without_secrets('password: "a b" then') == 'password: "***" then'
    assert without_secrets("Bearer abcdefgh12345") == "Bearer ***"
    said = "strategy.type: found a token, allowed: one of: x"
    assert without_secrets(said) == said


def test_a_fault_of_the_program_is_shown_with_its_place_and_without_secrets(capsys):
    def action():
        raise RuntimeError("no answer from postgresql://ann:canary-7f3@db.example/bots, api_key='canary-9a1'")

    assert ending_of("jobs", action) == Ending.FAILED
    said = capsys.readouterr().err
    assert "canary" not in said
    assert "in action" in said
    assert "RuntimeError: no answer from postgresql://" in said
    assert said.splitlines()[-1].startswith("jobs: this is a fault of the program itself")
