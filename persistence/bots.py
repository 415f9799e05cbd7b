"""The owner of `trading_bots`: rows in, `Bot` out, and the legal moves between.

A row has three writers:

- People (config, schedule, enabled, paused, type, user_id, description), through us or by plain SQL.
  Triggers raise `revision`, audit the edit and give a bot in error a new chance, so an edit is as good
  from any door. `revision` is what says that a bot's work was begun on an old row: a step that was
  does not commit (`persistence.ledger.guards`).
- The service (status, moments, errors). This raises no revision: to note that a bot is running must not
  make its own step stale. An edit that ends a bot's running (pause, disable) or forgives its errors
  writes these columns too, in its own statement: there may be no service that would.
- The step (heartbeat, balance, P&L; errors end with it), inside its transaction.

`enabled` and `paused` say what is wanted, `status` what is. A status changes only along `MOVES`:
`_move` is the one UPDATE of it here, and asks that table which statuses may become the new one; the
triggers' one move (error to stopped) is in the table too, a test watches that. Where the wish and the
status change together it is one statement: in two, the trigger would see an edit of a bot that is still
in error, or a status without the one who asked for it.

Nothing here commits. A function that reads and then decides reads under the row's lock (`lock`).
"""

from collections.abc import Collection, Mapping
from typing import Final

from persistence.columns import MOMENT, read_rows, selected
from persistence.database_errors import IllegalMove, NoSuchBot, PositionOpen
from persistence.rows import ERRORS, MOVES, Bot, ErrorRow
from persistence.setwise import ids_of, in_ids, upsert
from persistence.text import storable
from persistence.transaction import Transaction, database_now, is_sqlite, moment, run

__all__ = [
    "MOVES",
    "Bot",
    "add_bot",
    "all_bots",
    "beat",
    "change_status",
    "edit_bot",
    "get_bot",
    "record_failure",
    "remove_bot",
    "set_paused",
    "start_bot",
]  # fmt: skip

LONGEST_MESSAGE: Final = 2_000
MOST_COUNTED: Final = 1_000_000_000  # failures; one more than a column can hold would be one too many


def add_bot(  # noqa: PLR0913 -- the columns that a new row may bring along
    transaction: Transaction,
    *,
    config: str,
    now_ms: int,
    user_id: int = 1,
    type_: str = "paper",
    schedule: str | None = None,
    description: str = "",
    enabled: bool = True,
    actor: str = "service",
    reason: str | None = None,
) -> int:
    """Insert a bot and return its id. The configuration is not looked at here."""
    now = moment(transaction, now_ms)
    given = {
        "user_id": user_id,
        "type": type_,
        "enabled": enabled,
        "schedule": schedule,
        "config": config,
        "description": storable(description),
        "edited_by": storable(actor),
        "edit_reason": None if reason is None else storable(reason),
        "created_at": now,
        "updated_at": now,
    }
    ((bot_id,),) = run(
        transaction,
        f"INSERT INTO trading_bots ({', '.join(given)}) VALUES (:{', :'.join(given)}) RETURNING id",
        given,
    )
    return int(bot_id)


def all_bots(transaction: Transaction, user_id: int | None = None) -> tuple[Bot, ...]:
    mine = "" if user_id is None else "WHERE b.user_id = :user_id "
    return _bots(transaction, mine + "ORDER BY b.id", _only(user_id))


def get_bot(transaction: Transaction, bot_id: int, *, lock: bool = False) -> Bot | None:
    """Return the bot. With `lock` its row stays as it was read until the transaction ends."""
    locking = " FOR NO KEY UPDATE OF b" if lock and not is_sqlite(transaction) else ""
    return next(iter(_bots(transaction, "WHERE b.id = :id" + locking, {"id": bot_id})), None)


def _bots(transaction: Transaction, which: str, parameters: Mapping[str, object]) -> tuple[Bot, ...]:
    columns = selected(Bot, transaction.dialect.name, "b")
    return read_rows(run(transaction, f"SELECT {columns} FROM trading_bots b {which}", parameters), Bot)


def _only(user_id: int | None) -> dict[str, object]:
    return {} if user_id is None else {"user_id": user_id}


def set_paused(
    transaction: Transaction,
    bot_id: int,
    paused: bool,
    *,
    actor: str = "service",
    reason: str | None = None,
) -> bool:
    """Pause or resume a bot; return whether that changed anything.

    Resuming also gives a bot that its errors have stopped a new chance. Once this is committed no
    step of the bot that was begun before it can commit. Raises NoSuchBot.
    """
    given = {"id": bot_id, "paused": paused, **_asked(actor, reason)}
    if paused:
        changed = _move(transaction, "paused", "id = :id AND NOT paused", given, beside="paused = :paused")
    else:
        # A bot in error keeps its status here: the trigger of the edit gives it its new chance.
        which = "id = :id AND (paused OR status = 'error')"
        changed = _move(transaction, "stopped", which, given, beside="paused = :paused", sources={"paused"})
    return _existed(transaction, bot_id, changed)


def _existed(transaction: Transaction, bot_id: int, changed: int) -> bool:
    if changed == 0 and _status_of(transaction, bot_id) is None:
        raise NoSuchBot(bot_id)
    return changed > 0


def remove_bot(
    transaction: Transaction,
    bot_id: int,
    *,
    force: bool = False,
    actor: str = "service",
    reason: str | None = None,
) -> None:
    """Delete a bot with its state and steps. Orders, trades, positions and audit rows stay: the ledger.

    Raises NoSuchBot, or PositionOpen unless forced.
    """
    if _status_of(transaction, bot_id, lock=True) is None:
        raise NoSuchBot(bot_id)
    held = run(
        transaction,
        "SELECT symbol, side, quantity FROM trading_positions WHERE bot_id = :id AND closed_bar IS NULL",
        {"id": bot_id},
    ).first()
    if held is not None and not force:
        symbol, side, quantity = held
        raise PositionOpen(f"bot {bot_id} holds a position: {side} {quantity} {symbol}")
    # The trigger that audits the deletion reads from the row who asked for it.
    parameters = {"id": bot_id, **_asked(actor, reason)}
    run(
        transaction,
        "UPDATE trading_bots SET edited_by = :actor, edit_reason = :reason WHERE id = :id",
        parameters,
    )
    run(transaction, "DELETE FROM trading_bots WHERE id = :id", {"id": bot_id})


def start_bot(transaction: Transaction, bot_id: int, now_ms: int, *, actor: str = "service") -> bool:
    """Set an enabled bot running, with `started_at` the first time. Return whether it runs now."""
    row = run(
        transaction,
        "UPDATE trading_bots SET started_at = coalesce(started_at, :now), stopped_at = NULL"
        " WHERE id = :id AND enabled AND NOT paused AND status <> 'error' RETURNING status",
        {"now": moment(transaction, now_ms), "id": bot_id},
    ).first()
    if row is None:
        return False
    change_status(transaction, bot_id, "running", now_ms=now_ms, actor=actor)
    return True


def change_status(
    transaction: Transaction,
    bot_id: int,
    status: str,
    *,
    now_ms: int,
    actor: str = "service",
    reason: str | None = None,
) -> bool:
    """Move a bot to `status` and audit it; return False if that is what it was.

    Raises NoSuchBot, or IllegalMove for what `MOVES` does not have.
    """
    found = _status_of(transaction, bot_id, lock=True)
    if found is None:
        raise NoSuchBot(bot_id)
    if found == status:
        return False
    if status not in MOVES.get(found, frozenset()):
        raise IllegalMove(f"bot {bot_id} is {found}: it cannot become {status}")
    given: dict[str, object] = {"id": bot_id, **_asked(actor, reason)}
    beside = ""
    if status in {"stopped", "error"}:
        beside, given["now"] = "stopped_at = :now", moment(transaction, now_ms)
    _move(transaction, status, "id = :id", given, beside=beside)
    return True


def _asked(actor: str, reason: str | None) -> dict[str, str | None]:
    """Return who asks and why, as the audit keeps them: an empty reason is none."""
    return {"actor": storable(actor), "reason": storable(reason) if reason else None}


def _move(
    transaction: Transaction,
    status: str,
    which: str,
    given: Mapping[str, object],
    *,
    beside: str = "",
    sources: Collection[str] = frozenset(MOVES),
) -> int:
    """Update the bots of `which` (SQL) and return how many there were.

    The one UPDATE of a status. It gives `status` to those that may become it, by `MOVES` and among
    `sources`; the others keep theirs. `beside` sets further columns of all of them in the same
    statement, because the triggers see one edit, with one actor, only if it is one. `given` has the
    parameters of both, and `actor` and `reason`.
    """
    return run(
        transaction,
        f"UPDATE trading_bots SET status = CASE WHEN status IN ({_before(status, sources)}) THEN :status"
        f" ELSE status END{', ' if beside else ''}{beside}, edited_by = :actor, edit_reason = :reason"
        f" WHERE {which}",
        {**given, "status": status},
    ).rowcount


def _before(status: str, sources: Collection[str] = frozenset(MOVES)) -> str:
    """Return SQL for the list of statuses from which a bot may become `status`."""
    return ", ".join(f"'{found}'" for found in sorted(sources) if status in MOVES[found])


def _status_of(transaction: Transaction, bot_id: int, *, lock: bool = False) -> str | None:
    locking = " FOR NO KEY UPDATE" if lock and not is_sqlite(transaction) else ""
    rows = run(transaction, "SELECT status FROM trading_bots WHERE id = :id" + locking, {"id": bot_id})
    return next((status for (status,) in rows), None)


def record_failure(  # noqa: PLR0913 -- everything that a row says about a failure
    transaction: Transaction,
    bot_id: int,
    *,
    kind: str,
    message: str,
    now_ms: int,
    retry_at_ms: int | None,
    status: str | None = None,
    actor: str = "service",
) -> int:
    """Count a failure in the bot's row and return how many there were in a row; 0 if the bot is gone."""
    text = storable(message[:LONGEST_MESSAGE])
    counted = run(
        transaction,
        f"UPDATE trading_bots SET error_count = CASE WHEN error_count BETWEEN 0 AND {MOST_COUNTED}"
        " THEN error_count + 1 ELSE 1 END, last_error = :text, retry_at = :retry_at"
        " WHERE id = :id RETURNING error_count",
        {"text": f"{kind}: {text}", "retry_at": moment(transaction, retry_at_ms), "id": bot_id},
    ).first()
    if counted is None:
        return 0
    upsert(transaction, ERRORS, [ErrorRow(bot_id, str(kind), 1, now_ms, text)], add=("count",))
    if status is not None:
        change_status(transaction, bot_id, status, now_ms=now_ms, actor=actor, reason=text)
    (count,) = counted
    return int(count)


def beat(transaction: Transaction, bot_ids: Collection[int], *, now_ms: int) -> None:
    """Write that these bots were looked at, where there was no bar to step."""
    if bot_ids:
        run(
            transaction,
            f"UPDATE trading_bots SET last_heartbeat = :now WHERE id {in_ids(transaction)}",
            {"now": moment(transaction, now_ms), "ids": ids_of(transaction, bot_ids)},
        )


def standing(transaction: Transaction, user_id: int | None = None) -> dict[int, tuple[int, str]]:
    """Return bot id -> (revision, status): the cheap look that says which rows are worth reading."""
    mine = "" if user_id is None else " WHERE user_id = :user_id"
    rows = run(transaction, "SELECT id, revision, status FROM trading_bots" + mine, _only(user_id))
    return {bot_id: (revision, status) for bot_id, revision, status in rows}


def move_all(
    transaction: Transaction,
    bot_ids: Collection[int],
    status: str,
    *,
    now_ms: int,
    reason: str | None = None,
    actor: str = "service",
) -> int:
    """Move those of these bots that may become `status` (see `MOVES`) and return how many did.

    Setting running also sets started_at the first time, and leaves out bots that may not run.
    """
    if not bot_ids:
        return 0
    given: dict[str, object] = {"ids": ids_of(transaction, bot_ids), **_asked(actor, reason)}
    which = f"id {in_ids(transaction)} AND status IN ({_before(status)})"
    beside = ""
    if status in {"running", "stopped"}:
        given["now"] = moment(transaction, now_ms)
        beside = "stopped_at = :now"
    if status == "running":
        which += " AND enabled AND NOT paused"
        beside = "started_at = coalesce(started_at, :now), stopped_at = NULL"
    return _move(transaction, status, which, given, beside=beside)


def cursors(transaction: Transaction, user_id: int | None = None) -> dict[int, tuple[int | None, int | None]]:
    """Return bot id -> (open time of its last committed bar, last heartbeat), both in ms."""
    beat_at = MOMENT.selected("b.last_heartbeat", transaction.dialect.name)
    # What is no number is told where the bot's row is read.
    last_bar = "s.last_bar"
    if is_sqlite(transaction):
        last_bar = "CASE WHEN typeof(s.last_bar) = 'integer' THEN s.last_bar END"
    mine = "" if user_id is None else " WHERE b.user_id = :user_id"
    rows = run(
        transaction,
        f"SELECT b.id, {last_bar}, {beat_at} FROM trading_bots b"
        f" LEFT JOIN bot_states s ON s.bot_id = b.id{mine}",
        _only(user_id),
    )
    return {bot_id: (last_bar, heartbeat) for bot_id, last_bar, heartbeat in rows}


def forgive_all(transaction: Transaction, user_id: int | None = None, *, actor: str = "service") -> int:
    """Give the bots that their errors have stopped a new chance; return how many there were."""
    mine = "" if user_id is None else " AND user_id = :user_id"
    given = {"actor": actor, "reason": "started afresh", **_only(user_id)}
    beside = "error_count = 0, retry_at = NULL"
    return _move(transaction, "stopped", "status = 'error'" + mine, given, beside=beside)


def edit_bot(
    transaction: Transaction,
    bot_id: int,
    columns: Mapping[str, object],
    *,
    revision: int | None = None,
    actor: str = "service",
    reason: str | None = None,
) -> bool:
    """Write columns that people edit, in one UPDATE; return False if the row is not at `revision` any more.

    To disable a bot stops it. Also without a difference this is an edit: it raises the revision, is
    audited, and gives a bot that its errors have stopped a new chance. The names of `columns` become
    SQL: they are the caller's, never a person's.
    """
    given: dict[str, object] = {**columns, "id": bot_id, "revision": revision, **_asked(actor, reason)}
    which = "id = :id" + ("" if revision is None else " AND revision = :revision")
    sets = ", ".join(f"{name} = :{name}" for name in columns)
    if columns.get("enabled") is False:
        # What ends a bot's running says so itself: there may be no service that would. The moment is the
        # database's, as that of `resumed_at` is.
        given["now"] = moment(transaction, database_now(transaction))
        return _move(transaction, "stopped", which, given, beside=f"{sets}, stopped_at = :now") > 0
    sets = f"{sets}, edited_by = :actor, edit_reason = :reason"
    return run(transaction, f"UPDATE trading_bots SET {sets} WHERE {which}", given).rowcount > 0


def forgive(transaction: Transaction, bot_id: int) -> None:
    """Forget a bot's failures in a row and the wait that they have earned it."""
    run(
        transaction,
        "UPDATE trading_bots SET error_count = 0, retry_at = NULL WHERE id = :id",
        {"id": bot_id},
    )
