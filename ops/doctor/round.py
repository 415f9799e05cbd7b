"""The doctor's round: which checks in which order, and how they are told."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from jobs.command.endings import Ending
from jobs.command.table import as_json as json_text
from jobs.command.table import colored, put
from jobs.defaults import SETTINGS_FILE
from jobs.settings import DatabaseSettings, Settings, load_settings
from ops.doctor import bot_rows as bots
from ops.doctor import host as machine
from ops.doctor import storage
from ops.doctor.check import Check, Mark, fail, ok
from ops.doctor.running_service import service_check
from persistence.database import open_database
from persistence.database_errors import DatabaseUnavailable
from strategies.faults import InvalidConfig
from strategies.plain_text import visible
from strategies.secrecy import without_secrets

SIGNS: Final = {Mark.OK: "✓", Mark.WARN: "!", Mark.FAIL: "✗"}
PLAIN_SIGNS: Final = {Mark.OK: "ok", Mark.WARN: "warn", Mark.FAIL: "FAIL"}
COLORS: Final = {Mark.OK: "\x1b[32m", Mark.WARN: "\x1b[33m", Mark.FAIL: "\x1b[31m"}


def examine(config: Path | None, db: str | None) -> Iterator[Check]:
    """Yield every check as soon as it is done. `db` is a URL instead of the settings' one."""
    yield machine.python()
    yield machine.packages()
    yield machine.clock()
    settings, faults = _settings(config, db)
    yield from faults
    if settings is None:
        return
    yield from bots.settings_file(config or SETTINGS_FILE)
    yield machine.memory(settings.workers)
    yield machine.unit()
    yield from machine.secrets()
    yield from bots.plugins(settings)
    tables = False
    for check in storage.database(settings.database.url):
        tables = tables or (check.name == "tables" and check.mark is Mark.OK)
        yield check
    if not tables:
        return
    yield from _contents(settings)
    yield from service_check(settings)


def report(checks: Iterator[Check], *, as_json: bool) -> int:
    """Print the checks, one a line, and return the exit code: 1 if any failed.

    What they found comes from rows, files and drivers: it is shown without secrets and does nothing.
    """
    checks = map(_shown, checks)
    if as_json:
        found = tuple(checks)
        document = {"schema": "doctor/v1", "checks": [asdict(check) for check in found]}
        put(json_text(document))
        return _ending(found)
    color = colored(sys.stdout)
    seen = []
    for check in checks:
        seen.append(check)
        put(_line(check, color=color), tinted=color)
        sys.stdout.flush()
    return _ending(seen)


def _shown(check: Check) -> Check:
    finding, mend = (visible(without_secrets(text)) for text in (" ".join(check.finding.split()), check.mend))
    return replace(check, finding=finding, mend=mend)


def _ending(checks: Sequence[Check]) -> int:
    return Ending.FAILED if any(check.mark is Mark.FAIL for check in checks) else Ending.DONE


def _line(check: Check, *, color: bool) -> str:
    sign = f"{COLORS[check.mark]}{SIGNS[check.mark]}\x1b[0m" if color else f"{PLAIN_SIGNS[check.mark]:<4}"
    line = f"{sign} {check.name:<14} {check.finding}"
    return f"{line}; {check.mend}" if check.mend else line


def _settings(config: Path | None, db: str | None) -> tuple[Settings | None, tuple[Check, ...]]:
    name = str(config or SETTINGS_FILE)
    try:
        settings = load_settings(config)
    except FileNotFoundError:
        return None, (fail("settings", f"{name} is not there", "name another by --config"),)
    except InvalidConfig as exc:
        mend = f"mend it in {name} or in the environment (ONEBAR_...)"
        return None, tuple(fail("settings", str(fault), mend) for fault in exc.faults)
    if db is not None:
        settings = settings.model_copy(update={"database": DatabaseSettings.model_construct(url=db)})
    where = name if (config or SETTINGS_FILE).is_file() else f"no {name} here: the defaults"
    return settings, (ok("settings", where),)


def _contents(settings: Settings) -> Iterator[Check]:
    url = settings.database.url
    try:
        database = open_database(url)
        try:
            yield from bots.rows(database, settings)
        finally:
            database.close()
    except DatabaseUnavailable as exc:
        yield fail("database", str(exc), "it was there a moment ago: look at its log")
