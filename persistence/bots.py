"""The owner of `trading_bots`: rows in, `Bot` out, and the legal moves between.

The columns that people edit (config, schedule, enabled, paused, type, user_id, description) raise
`revision` by trigger, whoever edits them; what the service writes here (status, heartbeat, balance,
errors) does not. `revision` is therefore what says that a bot's work was begun on an old row.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Final

from persistence.database_errors import IllegalMove, NoSuchBot, PositionOpen
from persistence.money import read_money
from persistence.rows import MOVES, Bot
from persistence.setwise import ids_of, in_ids
from persistence.text import storable
from persistence.transaction import Transaction, is_sqlite, moment, ms_of, run

__all__ = [
    "MOVES", "Bot", "add_bot", "all_bots", "beat", "change_status", "get_bot", "record_failure", "remove_bot",
    "revisions", "set_enabled", "set_paused", "start_bot",
]  # fmt: skip

LONGEST_MESSAGE: Final = 2_000
PLAIN: Final = ("id", "user_id", "type", "enabled", "paused", "status", "schedule")
COLUMN_COUNT: Final = 21


@cache
def bot_columns(dialect: str) -> str:
    """Return SQL for the columns of table alias `b` in the order of `Bot`, each as a plain value.

    Read through functions that cannot fail, so that a row with a broken value hides no other row.
    """
    text = "CAST(b.{} AS TEXT)"
    moments = ("started_at", "stopped_at", "resumed_at", "last_heartbeat")
    return ", ".join(
        (
            *(f"b.{name}" for name in PLAIN),
            text.format("config"),
            "b.revision",
            *(ms_of(f"b.{name}", dialect) for name in moments),
            "b.error_count",
            "b.last_error",
            ms_of("b.retry_at", dialect),
            text.format("current_balance"),
            text.format("total_pnl"),
            "b.description",
            *(f"coalesce({ms_of(f'b.{name}', dialect)}, 0)" for name in ("created_at", "updated_at")),
        )
    )


def bot_of(row: Iterable[object]) -> Bot:
    """Return the bot of a row that `bot_columns` selected; further columns are not looked at."""
    values = list(row)[:COLUMN_COUNT]
    values[3], values[4] = bool(values[3]), bool(values[4])
    values[16] = read_money(values[16])
    values[17] = read_money(values[17]) or read_money("0")
    return Bot(*values)  # type: ignore[arg-type]  # the columns are those of Bot, a test compares them


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
    row = run(
        transaction,
        "INSERT INTO trading_bots (user_id, type, enabled, schedule, config, description, created_at,"
        " updated_at, edited_by, edit_reason) VALUES (:user_id, :type, :enabled, :schedule, :config,"
        " :description, :now, :now, :actor, :reason) RETURNING id",
        {
            "user_id": user_id,
            "type": type_,
            "enabled": enabled,
            "schedule": schedule,
            "config": config,
            "description": description,
            "now": moment(transaction, now_ms),
            "actor": actor,
            "reason": reason,
        },
    ).first()
    return int(row[0])


def all_bots(transaction: Transaction, user_id: int | None = None) -> tuple[Bot, ...]:
    mine = "" if user_id is None else " WHERE b.user_id = :user_id"
    sql = f"SELECT {bot_columns(transaction.dialect.name)} FROM trading_bots b{mine} ORDER BY b.id"
    return tuple(bot_of(row) for row in run(transaction, sql, _only(user_id)))


def get_bot(transaction: Transaction, bot_id: int) -> Bot | None:
    sql = f"SELECT {bot_columns(transaction.dialect.name)} FROM trading_bots b WHERE b.id = :id"
    row = run(transaction, sql, {"id": bot_id}).first()
    return None if row is None else bot_of(row)


def revisions(transaction: Transaction, user_id: int | None = None) -> dict[int, int]:
    """Return bot id -> revision: what changed since the last look is what differs."""
    mine = "" if user_id is None else " WHERE user_id = :user_id"
    rows = run(transaction, "SELECT id, revision FROM trading_bots" + mine, _only(user_id))
    return {int(row[0]): int(row[1]) for row in rows}


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
    status = "'paused'" if paused else "CASE WHEN status = 'paused' THEN 'stopped' ELSE status END"
    differs = "NOT paused" if paused else "(paused OR status = 'error')"
    changed = run(
        transaction,
        f"UPDATE trading_bots SET paused = :paused, status = {status}, edited_by = :actor,"
        f" edit_reason = :reason WHERE id = :id AND {differs}",
        {"paused": paused, "actor": actor, "reason": reason, "id": bot_id},
    ).rowcount
    return _existed(transaction, bot_id, changed)


def set_enabled(
    transaction: Transaction,
    bot_id: int,
    enabled: bool,
    *,
    now_ms: int,
    actor: str = "service",
    reason: str | None = None,
) -> bool:
    """Enable or disable a bot; return whether that changed anything. Raises NoSuchBot."""
    stop = "" if enabled else " status = 'stopped', stopped_at = :now,"
    changed = run(
        transaction,
        f"UPDATE trading_bots SET enabled = :enabled,{stop} edited_by = :actor, edit_reason = :reason"
        " WHERE id = :id AND enabled <> :enabled",
        {
            "enabled": enabled,
            "now": moment(transaction, now_ms),
            "actor": actor,
            "reason": reason,
            "id": bot_id,
        },
    ).rowcount
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
        raise PositionOpen(f"bot {bot_id} holds a position: {held[1]} {held[2]} {held[0]}")
    # The trigger that audits the deletion reads from the row who asked for it.
    parameters = {"id": bot_id, "actor": actor, "reason": reason}
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
    ended = ", stopped_at = :now" if status in {"stopped", "error"} else ""
    parameters = {"status": status, "actor": actor, "reason": reason, "id": bot_id}
    run(
        transaction,
        f"UPDATE trading_bots SET status = :status{ended}, edited_by = :actor, edit_reason = :reason"
        " WHERE id = :id",
        parameters | ({"now": moment(transaction, now_ms)} if ended else {}),
    )
    return True


def _status_of(transaction: Transaction, bot_id: int, *, lock: bool = False) -> str | None:
    locking = " FOR NO KEY UPDATE" if lock and not is_sqlite(transaction) else ""
    row = run(transaction, "SELECT status FROM trading_bots WHERE id = :id" + locking, {"id": bot_id}).first()
    return None if row is None else str(row[0])


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
    row = run(
        transaction,
        "UPDATE trading_bots SET error_count = error_count + 1, last_error = :text, retry_at = :retry_at"
        " WHERE id = :id RETURNING error_count",
        {"text": f"{kind}: {text}", "retry_at": moment(transaction, retry_at_ms), "id": bot_id},
    ).first()
    if row is None:
        return 0
    run(
        transaction,
        "INSERT INTO bot_errors (bot_id, kind, count, last_at, last_message)"
        " VALUES (:id, :kind, 1, :now, :text) ON CONFLICT (bot_id, kind) DO UPDATE"
        " SET count = bot_errors.count + 1, last_at = excluded.last_at, last_message = excluded.last_message",
        {"id": bot_id, "kind": str(kind), "now": moment(transaction, now_ms), "text": text},
    )
    if status is not None:
        change_status(transaction, bot_id, status, now_ms=now_ms, actor=actor, reason=text)
    return int(row[0])


def error_counts(transaction: Transaction, bot_id: int) -> dict[str, int]:
    """Return how often the bot failed in each way since it was added: kind -> count."""
    rows = run(
        transaction, "SELECT kind, count FROM bot_errors WHERE bot_id = :id ORDER BY kind", {"id": bot_id}
    )
    return {str(row[0]): int(row[1]) for row in rows}


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
    return {int(row[0]): (int(row[1]), str(row[2])) for row in rows}


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
    sources = ", ".join(f"'{found}'" for found in sorted(MOVES) if status in MOVES[found])
    changes = {
        "running": ", started_at = coalesce(started_at, :now), stopped_at = NULL",
        "stopped": ", stopped_at = :now",
    }.get(status, "")
    allowed = " AND enabled AND NOT paused" if status == "running" else ""
    parameters: dict[str, object] = {
        "status": status,
        "actor": actor,
        "reason": reason,
        "ids": ids_of(transaction, bot_ids),
    }
    return run(
        transaction,
        f"UPDATE trading_bots SET status = :status{changes}, edited_by = :actor, edit_reason = :reason"
        f" WHERE id {in_ids(transaction)} AND status IN ({sources}){allowed}",
        parameters | ({"now": moment(transaction, now_ms)} if changes else {}),
    ).rowcount


def cursors(transaction: Transaction, user_id: int | None = None) -> dict[int, tuple[int | None, int | None]]:
    """Return bot id -> (open time of its last committed bar, last heartbeat), both in ms."""
    beat_at = ms_of("b.last_heartbeat", transaction.dialect.name)
    mine = "" if user_id is None else " WHERE b.user_id = :user_id"
    rows = run(
        transaction,
        f"SELECT b.id, s.last_bar, {beat_at} FROM trading_bots b"
        f" LEFT JOIN bot_states s ON s.bot_id = b.id{mine}",
        _only(user_id),
    )
    return {int(row[0]): (row[1], row[2]) for row in rows}


def forgive_all(transaction: Transaction, user_id: int | None = None, *, actor: str = "service") -> int:
    """Give the bots that their errors have stopped a new chance; return how many there were."""
    mine = "" if user_id is None else " AND user_id = :user_id"
    return run(
        transaction,
        "UPDATE trading_bots SET status = 'stopped', error_count = 0, retry_at = NULL, edited_by = :actor,"
        " edit_reason = 'started afresh' WHERE status = 'error'" + mine,
        {"actor": actor, **_only(user_id)},
    ).rowcount


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

    Also without a difference this is an edit: it raises the revision, is audited, and gives a bot that its
    errors have stopped a new chance.
    """
    changes = "".join(f"{name} = :{name}, " for name in columns)
    expected = "" if revision is None else " AND revision = :revision"
    return (
        run(
            transaction,
            f"UPDATE trading_bots SET {changes}edited_by = :actor, edit_reason = :reason"
            f" WHERE id = :id{expected}",
            {**columns, "actor": actor, "reason": reason, "id": bot_id, "revision": revision},
        ).rowcount
        > 0
    )


def forgive(transaction: Transaction, bot_id: int) -> None:
    """Forget a bot's failures in a row and the wait that they have earned it."""
    run(
        transaction,
        "UPDATE trading_bots SET error_count = 0, retry_at = NULL WHERE id = :id",
        {"id": bot_id},
    )
