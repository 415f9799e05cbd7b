"""Where the database is, found without pydantic, which the fast commands cannot afford to import.

Precedence as in jobs/settings.py: `--db`, then `ONEBAR_DATABASE_URL`, then
`ONEBAR_DATABASE__URL`, then `[database] url` of the file, then the default.
"""

import argparse
import os
import re
import time
import tomllib
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from jobs.command.endings import CommandFailed, Ending
from jobs.defaults import DATABASE_URL, DATABASES, SETTINGS_FILE, SETTLE_MS
from jobs.desk.outline import HIDDEN
from persistence.console import Console

PASSWORD_OPTION: Final = re.compile(r"(?<=password=)[^&]*", re.IGNORECASE)


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
        raise CommandFailed(
            Ending.USAGE, f"{without_password(url)!r} begins with none of {', '.join(DATABASES)}"
        )
    try:
        urlsplit(url).port  # noqa: B018 - looked at for its error
    except ValueError as exc:
        raise CommandFailed(Ending.USAGE, f"{without_password(url)!r} is no URL: {exc}") from exc


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def without_password(url: str) -> str:
    """Return the URL as it may be shown: what stands between `:` and `@` is a secret."""
    scheme, separator, rest = url.partition("://")
    account, at, host = rest.rpartition("@")
    user, colon, _ = account.partition(":")
    shown = f"{user}:{HIDDEN}@{host}" if at and colon else rest
    return f"{scheme}{separator}{PASSWORD_OPTION.sub(HIDDEN, shown)}"


def without_passwords(text: str) -> str:
    """Return a message of a database library without the passwords of the URLs that it quotes."""
    return re.sub(r"\w+://[^\s\"']+", lambda found: without_password(found[0]), text)


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
        with chosen.open("rb") as file:
            found = tomllib.load(file).get(section)
    except FileNotFoundError as exc:
        raise CommandFailed(Ending.USAGE, f"{chosen}: no such file") from exc
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise CommandFailed(Ending.FAILED, f"{chosen}: {exc}", "scheduler doctor shows every fault") from exc
    return found.get(key, default) if isinstance(found, dict) else default
