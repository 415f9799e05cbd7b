"""Wrong orders of steps, planted to see the harness catch them. Each function patches its own process.

Undisturbed, a mutant writes the ledger that the real program writes: the harness asks that first, so
what it finds later is the wrong order and not a mutant that has fallen out of step with the program.
"""

from collections.abc import Callable, Mapping, Sequence

import jobs.bar.firing
from jobs.bar.failures import Failure
from jobs.bar.runtime import Runtime
from persistence.ledger import guards, pages, steps
from persistence.ledger.advance import Advance
from persistence.notifications import enqueue
from persistence.rows import POSITIONS, TRADES

Committed = tuple[frozenset[int], Mapping[int, Failure]]


def cursor_first() -> None:
    """The cursor is committed, and then, in a transaction of its own, what the bar did."""

    def commit(advances: Sequence[Advance], rt: Runtime) -> Committed:
        now = rt.clock.now_ms()
        with rt.database.write() as connection:
            moved = guards.move(connection, [steps._guarded(advance) for advance in advances], now_ms=now)
            steps._keep_configurations(connection, advances)
        with rt.database.write() as connection:
            done = [advance for advance in advances if advance.bot_id in moved]
            pages.write_pages(connection, [pages.pages_of(advance, now) for advance in done])
            enqueue(connection, [alert for advance in done for alert in advance.notifications], now_ms=now)
        return frozenset(moved), {}

    jobs.bar.firing._commit = commit


def trades_outside() -> None:
    """State, steps and orders are one transaction; trades and positions follow in another."""
    put_off: list[Callable[[object], None]] = []
    upsert, follow = pages.upsert, pages._follow_positions
    commit_whole = jobs.bar.firing._commit

    def upsert_some(connection, table, rows, **options):
        if table in {TRADES, POSITIONS}:
            put_off.append(lambda later: upsert(later, table, rows, **options))
        else:
            upsert(connection, table, rows, **options)

    def commit(advances: Sequence[Advance], rt: Runtime) -> Committed:
        committed = commit_whole(advances, rt)
        with rt.database.write() as connection:
            while put_off:
                put_off.pop(0)(connection)
        return committed

    pages.upsert = upsert_some
    pages._follow_positions = lambda _, held: put_off.append(lambda later: follow(later, held))
    jobs.bar.firing._commit = commit


def no_version_check() -> None:
    """Whoever commits last wins: neither the version of the state nor the revision of the row is compared."""
    sql = guards._move_sql()
    unguarded = sql.replace(" AND s.version = n.from_version", "")
    assert unguarded != sql
    guards._move_sql = lambda: unguarded
    guards.Found.is_begin_of = lambda *_: True


MUTANTS: dict[str, Callable[[], None]] = {
    "cursor_first": cursor_first,
    "trades_outside": trades_outside,
    "no_version_check": no_version_check,
}
