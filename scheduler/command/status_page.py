"""`scheduler status`: the state of the service and of all bots on one screen, and as an exit code."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from jobs.command.endings import CommandFailed, Ending
from jobs.command.moments import dated, span
from jobs.command.table import Column, aligned, put
from jobs.command.table import as_json as json_text
from jobs.desk import Actor, list_bots
from jobs.desk.looking import Timing, state_of
from jobs.desk.outline import outline
from jobs.settings import Settings
from ops.health import ServiceStatus, read_status
from persistence import schema
from persistence.console import Console
from persistence.rows import Overview
from strategies.secrecy import shown_url


def print_status(settings: Settings, *, as_json: bool) -> int:
    """Print and return 0 healthy, 1 running but not healthy, 3 not running, 5 database not reachable."""
    expect_tables(settings.database.url)
    status = read_status(settings)
    with Console(settings.database.url) as database:
        bots = list_bots(database, Actor("status", settings.service.user_id))
    now = time.time_ns() // 1_000_000
    timing = Timing(now, settings.markets.settle_ms)
    counts = summary(bots, timing)
    if as_json:
        document = {"schema": "status/v1", "service": status.as_json(), "bots": counts}
        put(json_text(document))
    else:
        put(_page(status, settings, counts, now))
    return _ending(status)


def expect_tables(url: str) -> None:
    """Raise CommandFailed for a database without tables; a file that is not there is not made."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).is_file():
        advice = "scheduler run makes it, or: scheduler db upgrade"
        raise CommandFailed(Ending.UNREACHABLE, f"there is no database file {parsed.database}", advice)
    if findings := schema.check(url):
        raise CommandFailed(Ending.FAILED, f"{shown_url(url)}: {'; '.join(findings)}")


def summary(bots: tuple[Overview, ...], timing: Timing) -> dict[str, Any]:
    """Count bots by state, open positions and bots behind; find the last step and the longest lag (ms)."""
    lags = [
        lag
        for overview in bots
        if state_of(overview.bot) == "running"
        and (lag := timing.lag(overview, outline(overview.bot.config).length)) is not None
    ]
    return {
        "total": len(bots),
        "by_state": dict(sorted(Counter(state_of(overview.bot) for overview in bots).items())),
        "open_positions": sum(len(overview.positions) for overview in bots),
        "failing": sum(overview.bot.error_count > 0 for overview in bots),
        "last_step_at": max(
            (overview.decided_at for overview in bots if overview.decided_at is not None), default=None
        ),
        "behind": sum(lag > 0 for lag in lags),
        "lag_ms": max(lags, default=None),
    }


def _page(status: ServiceStatus, settings: Settings, counts: dict[str, Any], now: int) -> str:
    states = ", ".join(f"{number} {state}" for state, number in counts["by_state"].items()) or "none"
    rows = [
        ["service", _word(status)],
        ["why", "; ".join(status.reasons) or "-"],
        ["run", f"pid {status.pid} on {status.host}, {status.role}" if status.pid else "-"],
        ["started", dated(status.started_at, now)],
        ["heartbeat", dated(status.heartbeat_at, now)],
        ["standbys", str(status.standbys)],
        ["database", shown_url(settings.database.url)],
        ["bots", f"{counts['total']}: {states}" if counts["total"] else "none; add one: jobs add FILE"],
        ["positions", str(counts["open_positions"])],
        ["failing", str(counts["failing"])],
        ["last step", dated(counts["last_step_at"], now)],
        [
            "behind",
            f"{counts['behind']} bots, by {span(counts['lag_ms'])} at most" if counts["behind"] else "none",
        ],
    ]
    return aligned((Column(""), Column("")), rows, headers=False)


def _word(status: ServiceStatus) -> str:
    if not status.running:
        return "not running"
    return "running" if status.healthy else "running, not healthy"


def _ending(status: ServiceStatus) -> int:
    if status.healthy:
        return Ending.DONE
    if status.running:
        return Ending.FAILED
    unreachable = any("database cannot be reached" in reason for reason in status.reasons)
    return Ending.UNREACHABLE if unreachable else Ending.NOT_RUNNING
