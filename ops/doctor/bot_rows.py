"""What the doctor finds out about strategies and bots: code that loads, rows that could run."""

import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jobs.bar.contradictions import contradictions
from jobs.bar.failures import damage
from jobs.clock import SystemClock
from jobs.desk.checking import Installation, check
from jobs.settings import Settings
from ops.doctor.check import Check, fail, ok, warn
from persistence.bots import Bot, all_bots
from persistence.database import Database
from persistence.ledger.steps import load
from strategies.secrecy import without_secrets

MOST_SHOWN: Final = 20
MOST_EXAMINED: Final = 500  # a look builds the strategy once, some ms


def plugins(settings: Settings) -> Iterator[Check]:
    for folder in settings.strategies.plugins:
        yield from _folder(folder)
    registered, faults = Installation.of(settings).registry.discover()
    for fault in faults:
        yield fail(
            "strategies", f"{fault.path}: {fault.found}", f"mend the file or take it away ({fault.allowed})"
        )
    yield ok("strategies", f"{len(registered)} strategies and mixins can be used")


def _folder(folder: Path) -> Iterator[Check]:
    if not folder.is_dir():
        yield fail(
            "plug-ins", f"{folder} is no folder", "make it, or mend [strategies] plugins in scheduler.toml"
        )
        return
    exposed = [path for path in (folder, *folder.glob("*.py")) if _written_by_others(path)]
    if exposed:
        listed = ", ".join(map(str, exposed))
        yield fail(
            "plug-ins", f"everybody may change {listed}", "run chmod o-w: it is code that the service runs"
        )
    else:
        yield ok("plug-ins", str(folder))


def _written_by_others(path: Path) -> bool:
    return sys.platform != "win32" and bool(path.stat().st_mode & stat.S_IWOTH)


def rows(database: Database, settings: Settings) -> Iterator[Check]:
    """Yield one check for all bots that could run, and one for every bot that could not."""
    with database.read() as connection:
        bots = all_bots(connection, settings.service.user_id)
    if not bots:
        yield ok("bots", "none yet; add one: jobs add FILE (examples: ops/demo/*.json)")
        return
    installation = Installation.of(settings)
    broken = [
        (bot, faults)
        for bot in bots[:MOST_EXAMINED]
        if (faults := check(bot.config, installation, bot.schedule or None).faults)
    ]
    examined = min(len(bots), MOST_EXAMINED)
    finding = f"{examined - len(broken)} of {examined} have a valid configuration"
    more = len(bots) - examined
    yield ok("bots", f"{finding}; {more} more were not looked at" if more else finding)
    for bot, faults in broken[:MOST_SHOWN]:
        # A bot that nobody wants to run harms nobody.
        mark = fail if bot.enabled else warn
        yield mark(f"bot {bot.id}", "; ".join(map(str, faults)), _mend(bot))
    if len(broken) > MOST_SHOWN:
        yield fail("bots", f"{len(broken) - MOST_SHOWN} more are broken", "mend these and look again")
    yield from _in_error(bots)
    yield from _impossible(bots, database)


def _mend(bot: Bot) -> str:
    return f"mend config of trading_bots row {bot.id}, then: jobs resume {bot.id}"


def _in_error(bots: tuple[Bot, ...]) -> Iterator[Check]:
    for bot in [bot for bot in bots if bot.status == "error" and bot.enabled][:MOST_SHOWN]:
        reason = bot.last_error or "no reason is recorded"
        yield fail(f"bot {bot.id}", f"stopped: {reason}", f"mend the cause, then: jobs resume {bot.id}")


def _impossible(bots: tuple[Bot, ...], database: Database) -> Iterator[Check]:
    """Say what the service would say at the bot's next bar, where none runs."""
    healthy = [bot for bot in bots if bot.status != "error"]
    for bot in [bot for bot in healthy if bot.broken][:MOST_SHOWN]:
        yield fail(f"bot {bot.id}", damage(bot).message, "see there")
    ids = [bot.id for bot in healthy if not bot.broken]
    now_ms = SystemClock().now_ms()
    with database.read() as connection:
        found = contradictions(connection, load(connection, ids), now_ms)
    for bot_id, why in list(found.items())[:MOST_SHOWN]:
        yield fail(f"bot {bot_id}", f"this cannot be: {why}", f"then: jobs resume {bot_id}")


def _holds_secrets(text: str) -> bool:
    return without_secrets(text) != text


def settings_file(path: Path) -> Iterator[Check]:
    """Look at who may read and change scheduler.toml."""
    if sys.platform == "win32" or not path.is_file():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IWOTH:
        yield fail(
            "permissions", f"{path} has mode {mode:o}: everybody may change it", f"run: chmod o-w {path}"
        )
    elif mode & stat.S_IROTH and _holds_secrets(path.read_text(encoding="utf-8", errors="replace")):
        yield warn(
            "permissions", f"{path} holds a password and everybody may read it", f"run: chmod o-r {path}"
        )
