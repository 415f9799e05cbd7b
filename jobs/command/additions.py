"""Commands that check configurations: `jobs add` and `jobs validate` of files, `jobs edit` of a row."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, Final

from jobs.command.account import actor
from jobs.command.endings import CommandFailed, Ending
from jobs.command.formats import put_documents
from jobs.command.location import database_url, expect_url, now_ms, opened
from jobs.command.table import as_csv, put, say
from jobs.desk.adding import Columns
from jobs.desk.adding import add as add_bots
from jobs.desk.checking import Checked, Installation, check
from jobs.desk.editing import EditedMeanwhile
from jobs.desk.editing import edit as edit_bot
from jobs.desk.outline import masked
from jobs.regular_file import NotRegular, open_regular
from jobs.settings import load_settings
from persistence import schema
from strategies import secrecy
from strategies.faults import Fault, InvalidConfig
from strategies.secrecy import shown_url
from strategies.strict_json import MAX_CHARACTERS

STANDARD_INPUT: Final = "-"
MOST_BYTES: Final = 4 * MAX_CHARACTERS + 3  # in UTF-8, with its mark in front
PLAIN_TEXT: Final = frozenset({"schedule", "description"})


def validate(arguments: argparse.Namespace) -> int:
    checked = _checked(arguments.files, arguments.config)
    files: list[dict[str, Any]] = [
        {"file": file, "valid": not one.faults, "faults": [asdict(fault) for fault in one.faults]}
        for file, one in checked
    ]
    if arguments.format in {"table", "wide"}:
        for file, one in checked:
            put("\n".join(f"{file}: {fault}" for fault in one.faults) or f"{file}: valid")
    elif arguments.format == "csv":  # one line a fault, since a line holds no list
        rows = [[file, *asdict(fault).values()] for file, one in checked for fault in one.faults]
        put(as_csv(["file", "path", "found", "allowed"], rows, headers=arguments.headers))
    else:
        shown = [row for row in files if row["valid"]] if arguments.format == "name" else files
        put_documents(arguments, shown, "validation", "file", files=files)
    return Ending.FAILED if any(one.faults for _, one in checked) else Ending.DONE


def add(arguments: argparse.Namespace) -> int:
    checked = _checked(arguments.files, arguments.config, arguments.schedule)
    for file, one in checked:
        for fault in one.faults:
            say(f"{file}: {fault}")
    if any(one.faults for _, one in checked):
        raise CommandFailed(Ending.FAILED, "nothing was added")
    url = database_url(arguments.db, arguments.config)
    expect_url(url)
    _prepare_tables(url)
    columns = Columns(arguments.user_id, arguments.description, enabled=not arguments.disabled)
    with opened(arguments) as database:
        ids = add_bots(database, actor(), [one for _, one in checked], columns, now_ms=now_ms())
    rows = [
        {"id": bot_id, "name": one.config.name or one.config.id, "file": file}
        for bot_id, (file, one) in zip(ids, checked, strict=True)
        if one.config is not None
    ]
    if arguments.format in {"table", "wide"}:
        put("\n".join(map(str, ids)))
        say("added; look at them by: jobs list, run them by: scheduler run")
        return Ending.DONE
    return put_documents(arguments, rows, "added", bots=rows)


def edit(arguments: argparse.Namespace) -> int:
    wishes = dict(map(_wish, arguments.wishes))
    if len(wishes) < len(arguments.wishes):
        raise CommandFailed(Ending.USAGE, "a field is given twice")
    installation = _installation(arguments.config)
    with opened(arguments) as database:
        try:
            edited = edit_bot(database, actor(), arguments.id, wishes, installation, reason=arguments.reason)
        except EditedMeanwhile as exc:
            raise CommandFailed(Ending.TRY_AGAIN, str(exc), "look at it and give the command again") from exc
    rows = [
        {"path": path, "old": _hidden(path, old), "new": _hidden(path, new)}
        for path, old, new in map(astuple, edited.changes)
    ]
    if arguments.format not in {"table", "wide"}:
        return put_documents(arguments, rows, "edited", "path", bot_id=arguments.id, changes=rows)
    for row in rows:
        old, new = (json.dumps(row[side], ensure_ascii=False) for side in ("old", "new"))
        put(f"bot {arguments.id}: {row['path']}: {old} -> {new}")
    if not rows:
        put(f"bot {arguments.id}: was so already")
    return Ending.DONE


def _wish(text: str) -> tuple[str, object]:
    """Read `key=value`. A value is JSON if it can be read as that, else text; an empty schedule is none."""
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise CommandFailed(Ending.USAGE, f"{text!r} is not key=value, such as data.interval=15m")
    if key in PLAIN_TEXT:
        return key, value or (None if key == "schedule" else "")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        return key, value


def _hidden(path: str, value: object) -> object:
    """Return the value as it may be shown, which the names of its field and of those in it decide."""
    shown = masked(json.dumps({path: value}))
    return shown[path] if isinstance(shown, dict) else secrecy.HIDDEN


def _checked(
    files: Sequence[str], config: Path | None, schedule: str | None = None
) -> list[tuple[str, Checked]]:
    """Check files; return what came of them, under the names that messages give them."""
    installation = _installation(config)
    found = []
    for file in files:
        name = "standard input" if file == STANDARD_INPUT else file
        try:
            found.append((name, check(_read_text(file), installation, schedule)))
        except InvalidConfig as exc:
            found.append((name, Checked("", faults=exc.faults)))
    return found


def _read_text(file: str) -> str:
    """Read a file, or standard input for `-`. Raises CommandFailed, and InvalidConfig for what is no text."""
    try:
        raw = _read_bytes(file)
    except OSError as exc:
        raise CommandFailed(Ending.FAILED, f"{file}: {exc.strerror or exc}") from exc
    except NotRegular as exc:
        raise CommandFailed(Ending.FAILED, f"{file}: {exc}", f"a pipe is read as {STANDARD_INPUT}") from exc
    if len(raw) > MOST_BYTES:
        raise InvalidConfig((Fault("(all)", "more", f"at most {MOST_BYTES:,} bytes"),))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        found = f"a byte {raw[exc.start]:#04x} at position {exc.start}"
        raise InvalidConfig((Fault("(all)", found, "JSON in UTF-8"),)) from exc


def _read_bytes(file: str) -> bytes:
    """Read what may be a configuration, and one byte more of what is too large for one."""
    if file == STANDARD_INPUT:
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    with open_regular(Path(file)) as opened_file:
        return opened_file.read(MOST_BYTES + 1)


def _prepare_tables(url: str) -> None:
    """Make the tables of an SQLite file that is not there yet: a first bot needs no other command."""
    file = url.removeprefix("sqlite:///")
    if file != url and not Path(file).exists():
        schema.upgrade(url)
        say(f"made {file}")
        return
    findings = schema.check(url)
    if findings:
        raise CommandFailed(Ending.FAILED, f"{shown_url(url)}: {'; '.join(findings)}")


def _installation(file: Path | None) -> Installation:
    try:
        return Installation.of(load_settings(file))
    except FileNotFoundError as exc:
        raise CommandFailed(Ending.USAGE, f"{exc}: no such file") from exc
