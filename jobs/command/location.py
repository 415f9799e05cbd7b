"""Where the database is, found without pydantic, which the fast commands cannot afford to import.

Precedence as in jobs/settings.py: `--db`, then `ONEBAR_DATABASE_URL`, then
`ONEBAR_DATABASE__URL`, then `[database] url` of the file, then the default.
"""

import argparse
import os
import time
import tomllib
from pathlib import Path
from typing import Any

from jobs.command.endings import CommandFailed, Ending
from jobs.defaults import DATABASE_URL, DATABASES, SETTINGS_FILE, SETTLE_MS
from jobs.regular_file import NotRegular, open_regular
from persistence.console import Console
from strategies.secrecy import fault_of_url, shown_url


def database_url(db: str | None, config: Path | None) -> str:
    """Find the URL. Raises CommandFailed (usage) for a file that is missing or unreadable."""
    named = db or os.environ.get("ONEBAR_DATABASE_URL") or os.environ.get("ONEBAR_DATABASE__URL")
    if named:
        return named
    url = _setting(config, "database", "url", DATABASE_URL)
    return url if isinstance(url, str) else DATABASE_URL


def opened(arguments: argparse.Namespace) -> Console:
    """Open the database that the options name. Raises DatabaseUnavailable, CommandFailed (usage)."""
    url = database_url(arguments.db, arguments.config)
    expect_url(url)
    return Console(url)


def expect_url(url: str) -> None:
    """Raise CommandFailed (usage) for what no database could be at."""
    if not url.startswith(DATABASES):
        raise CommandFailed(Ending.USAGE, f"{shown_url(url)!r} begins with none of {', '.join(DATABASES)}")
    if fault := fault_of_url(url):
        raise CommandFailed(Ending.USAGE, f"{shown_url(url)!r} is no URL: {fault}")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def settle_ms(config: Path | None) -> int:
    """Find ms after a bar's close before it is asked for; needed to say when the next bar comes."""
    found = os.environ.get("ONEBAR_MARKETS__SETTLE_MS") or _setting(config, "markets", "settle_ms", SETTLE_MS)
    try:
        return int(found)
    except (TypeError, ValueError):
        return SETTLE_MS  # `scheduler doctor` reports it; a list need not fail for it


def _setting(config: Path | None, section: str, key: str, default: object) -> Any:
    chosen = config or SETTINGS_FILE
    if config is None and not chosen.is_file():
        return default
    try:
        with open_regular(chosen) as file:
            found = tomllib.load(file).get(section)
    except NotRegular as exc:
        raise CommandFailed(Ending.USAGE, f"{chosen}: {exc}") from exc
    except FileNotFoundError as exc:
        raise CommandFailed(Ending.USAGE, f"{chosen}: no such file") from exc
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise CommandFailed(Ending.FAILED, f"{chosen}: {exc}", "scheduler doctor shows every fault") from exc
    return found.get(key, default) if isinstance(found, dict) else default
