"""Wrong orders of steps, planted to see the harness catch them. Each function patches its own process."""

from collections.abc import Callable, Sequence

import jobs.bar.firing
from jobs.bar.decisions import Decision
from jobs.bar.runtime import Runtime
from persistence.ledger import guards, steps
from persistence.ledger import pages as ledger
from persistence.notifications import enqueue


def cursor_first() -> None:
    """The cursor is committed, and then, in a transaction of its own, what the bar did."""

    def commit(decisions: Sequence[Decision], rt: Runtime) -> frozenset[int]:
        advances = [each.advance for each in decisions if each.advance is not None]
        now = rt.clock.now_ms()
        with rt.database.write() as connection:
            moved = guards.move(connection, [steps._guarded(each) for each in advances], now_ms=now)
            steps._keep_configurations(connection, advances)
        with rt.database.write() as connection:
            ledger.write_ledger(connection, [each for each in advances if each.bot_id in moved], now_ms=now)
            alerts = [alert for each in advances for alert in each.notifications]
            enqueue(connection, alerts, now_ms=now)
        _keep(advances, rt)
        return frozenset(moved)

    jobs.bar.firing._commit = commit


def trades_outside() -> None:
    """State, steps and orders are one transaction; trades and positions follow in another."""
    put_off: list[Callable[[object], None]] = []
    write_rows = ledger.write_rows
    commit_whole = jobs.bar.firing._commit

    def write_some(connection, target, rows):
        if target in {ledger.TRADES, ledger.POSITIONS}:
            put_off.append(lambda later: write_rows(later, target, rows))
        else:
            write_rows(connection, target, rows)

    def commit(decisions: Sequence[Decision], rt: Runtime) -> frozenset[int]:
        saved = commit_whole(decisions, rt)
        with rt.database.write() as connection:
            while put_off:
                put_off.pop(0)(connection)
        return saved

    ledger.write_rows = write_some
    jobs.bar.firing._commit = commit


def no_version_check() -> None:
    """Whoever commits last wins: neither the version of the state nor the revision of the row is compared."""
    sql = guards._move_sql()
    unguarded = sql.replace(" AND s.version = n.from_version", "")
    assert unguarded != sql
    guards._move_sql = lambda: unguarded
    guards._is_at = lambda *_: True


def _keep(advances: Sequence[steps.Advance], rt: Runtime) -> None:
    for each in advances:
        rt.engines.keep(each.bot_id, each.version, each.steps[-1][1].state)


MUTANTS: dict[str, Callable[[], None]] = {
    "cursor_first": cursor_first,
    "trades_outside": trades_outside,
    "no_version_check": no_version_check,
}
