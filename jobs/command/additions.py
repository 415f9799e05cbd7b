"""`jobs add` and `jobs validate`: configurations from files, checked as the service will check them.

All files of one `add` are checked before any row is written, and all rows are written in one
transaction: a command that fails, or dies, has added nothing.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.command.changes import actor
from jobs.command.documents import document
from jobs.command.endings import CommandFailed, Ending
from jobs.command.location import database_url, expect_url, now_ms, without_password
from jobs.command.table import as_csv, as_json, as_json_lines, put, say
from jobs.command.validation import read_text, registry_of, schedule_fault, shown_name, validated
from jobs.settings import Settings, load_settings
from persistence import bots, schema
from persistence.database import open_database
from strategies.config import BotConfig
from strategies.faults import Fault, InvalidConfig


@dataclass(frozen=True, slots=True)
class Checked:
    """One file: its configuration, or its faults."""

    file: str
    text: str = ""
    config: BotConfig | None = None
    faults: tuple[Fault, ...] = ()


def validate(arguments: argparse.Namespace) -> int:
    checked = _checked(arguments.files, _settings(arguments.config))
    files: list[dict[str, Any]] = [
        {"file": each.file, "valid": not each.faults, "faults": [asdict(fault) for fault in each.faults]}
        for each in checked
    ]
    if arguments.format == "json":
        put(as_json(document("validation", files=files)))
    elif arguments.format == "jsonl":
        put(as_json_lines(files))
    elif arguments.format == "csv":
        rows = [[each.file, *asdict(fault).values()] for each in checked for fault in each.faults]
        put(as_csv(["file", "path", "found", "allowed"], rows, headers=arguments.headers))
    elif arguments.format == "name":
        put("\n".join(each.file for each in checked if not each.faults))
    else:
        for each in checked:
            put("\n".join(f"{each.file}: {fault}" for fault in each.faults) or f"{each.file}: valid")
    return Ending.FAILED if any(each.faults for each in checked) else Ending.DONE


def add(arguments: argparse.Namespace) -> int:
    checked = _checked(arguments.files, _settings(arguments.config))
    if (fault := schedule_fault(arguments.schedule)) is not None:
        raise InvalidConfig((fault,))
    faulty = [each for each in checked if each.faults]
    for each in faulty:
        for fault in each.faults:
            say(f"{each.file}: {fault}")
    if faulty:
        raise CommandFailed(Ending.FAILED, "nothing was added")
    url = database_url(arguments.db, arguments.config)
    expect_url(url)
    ids = _insert(arguments, checked, url)
    rows = [
        {"id": bot_id, "name": each.config.name or each.config.id, "file": each.file}
        for bot_id, each in zip(ids, checked, strict=True)
        if each.config is not None
    ]
    if arguments.format == "json":
        put(as_json(document("added", bots=rows)))
    elif arguments.format == "jsonl":
        put(as_json_lines(rows))
    elif arguments.format == "csv":
        put(as_csv(["id", "name", "file"], [list(row.values()) for row in rows], headers=arguments.headers))
    else:
        put("\n".join(map(str, ids)))
        say("added; look at them by: jobs list, run them by: scheduler run")
    return Ending.DONE


def _checked(files: Sequence[str], settings: Settings) -> tuple[Checked, ...]:
    registry = registry_of(settings)
    found = []
    for file in files:
        name = shown_name(file)
        try:
            text = read_text(file)
            found.append(Checked(name, text, validated(text, settings, registry)))
        except InvalidConfig as exc:
            found.append(Checked(name, faults=exc.faults))
    return tuple(found)


def _insert(arguments: argparse.Namespace, checked: Sequence[Checked], url: str) -> tuple[int, ...]:
    _prepare_tables(url)
    database = open_database(url)
    now, who = now_ms(), actor()
    try:
        with database.write() as transaction:
            return tuple(
                bots.add_bot(
                    transaction,
                    config=each.text,
                    now_ms=now,
                    user_id=arguments.user_id,
                    schedule=arguments.schedule,
                    description=arguments.description,
                    enabled=not arguments.disabled and each.config is not None and each.config.enabled,
                    actor=who,
                )
                for each in checked
            )
    finally:
        database.close()


def _prepare_tables(url: str) -> None:
    """Make the tables of an SQLite file that is not there yet: a first bot needs no other command."""
    file = url.removeprefix("sqlite:///")
    if file != url and not Path(file).exists():
        schema.upgrade(url)
        say(f"made {file}")
        return
    findings = schema.check(url)
    if findings:
        raise CommandFailed(Ending.FAILED, f"{without_password(url)}: {'; '.join(findings)}")


def _settings(file: Path | None) -> Settings:
    try:
        return load_settings(file)
    except FileNotFoundError as exc:
        raise CommandFailed(Ending.USAGE, f"{exc}: no such file") from exc
