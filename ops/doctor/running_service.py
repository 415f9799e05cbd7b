"""Who serves the database right now."""

from collections.abc import Iterator

from jobs.clock import SystemClock
from jobs.command.moments import dated
from jobs.settings import Settings
from ops.doctor.check import Check, ok, warn
from ops.health import read_status


def service_check(settings: Settings) -> Iterator[Check]:
    status = read_status(settings)
    if status.healthy:
        since = dated(status.started_at, SystemClock().now_ms())
        yield ok("service", f"{status.role} since {since}, pid {status.pid} on {status.host}")
    elif status.running:
        yield warn("service", "; ".join(status.reasons), "look at its log, and at: scheduler status")
    else:
        yield ok("service", f"not running: {'; '.join(status.reasons)}; start it by: scheduler run")
