"""The one transaction of a bar: guard first, then state, step, orders, trades, positions and alerts.

`save_steps` runs inside the caller's transaction, for a batch of bots. The guard decides bot by bot:
the lease's epoch, then the revision of the bot's row and the version of its state (compare and
swap). Whoever moved the bot, paused, edited or removed it since it was loaded wins; of the stale
advance nothing is written. The row of the bot stays locked until the commit, so an edit waits for
the step, or makes it stale, and never slips in between.

| the process dies ... | what the next run sees |
|---|---|
| anywhere before COMMIT is sent | nothing of it: the same cursor, the same bars are due |
| after | all of it: version and cursor are ahead |

Rows are numbered by bot, bar and the bot's own order and trade numbers: however bars are cut into
transactions, the same rows come out.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from typing import Any

from persistence.bots import bot_columns, bot_of
from persistence.database_errors import StaleState
from persistence.leases import Fence, assert_held
from persistence.ledger import guards
from persistence.ledger.advance import Advance, Loaded
from persistence.ledger.pages import pages_of, write_pages
from persistence.notifications import enqueue
from persistence.setwise import ids_of, in_ids
from persistence.transaction import Transaction, is_sqlite, run


def load(
    transaction: Transaction, bot_ids: Collection[int], known: Mapping[int, int] | None = None
) -> tuple[Loaded, ...]:
    """Return the bots that exist, by id; without the states of versions in `known` (bot id -> version)."""
    ids = list(dict.fromkeys(bot_ids))
    versions = [(known or {}).get(bot_id, -1) for bot_id in ids]
    sqlite = is_sqlite(transaction)
    parameters: dict[str, Any] = {"ids": ids_of(transaction, ids), "known": ids_of(transaction, versions)}
    loaded = []
    for row in run(transaction, _load_sql("sqlite" if sqlite else "postgresql"), parameters):
        version, last_bar, state, first_bar, trade_from, config, fingerprint = row[-7:]
        bot = bot_of(row)
        loaded.append(
            Loaded(
                bot=bot,
                version=version or 0,
                last_bar=last_bar,
                state=None if state is None else bytes(state),
                first_bar=first_bar,
                trade_from=trade_from,
                # Left out of the answer where it is the row's own, as it nearly always is.
                state_config=bot.config if config is None and version else config,
                fingerprint=fingerprint,
            )
        )
    return tuple(loaded)


@cache
def _load_sql(dialect: str) -> str:
    pairs = (
        "(SELECT i.value AS id, v.value AS version FROM json_each(:ids) i"
        " JOIN json_each(:known) v ON v.key = i.key)"
        if dialect == "sqlite"
        else "unnest(CAST(:ids AS BIGINT[]), CAST(:known AS BIGINT[]))"
    )
    name = "k" if dialect == "sqlite" else "k(id, version)"
    return (
        f"SELECT {bot_columns(dialect)}, s.version, s.last_bar,"
        " CASE WHEN s.version = k.version THEN NULL ELSE s.state END, s.first_bar, s.trade_from,"
        " CASE WHEN c.config = CAST(b.config AS TEXT) THEN NULL ELSE c.config END, s.fingerprint"
        f" FROM {pairs} AS {name} JOIN trading_bots b ON b.id = k.id"
        " LEFT JOIN bot_states s ON s.bot_id = b.id LEFT JOIN configurations c ON c.digest = s.configuration"
        " ORDER BY b.id"
    )


def save_steps(
    transaction: Transaction, advances: Sequence[Advance], *, now_ms: int, fence: Fence | None = None
) -> frozenset[int]:
    """Write the advances of a batch and return the ids of the bots that have moved.

    The others were stale: nothing of them is written. Raises LeaseLost, UnsavableStep (names the bot;
    nothing of the batch is written yet), and ValueError if a bot is there twice.
    """
    if fence is not None:
        assert_held(transaction, fence)
    ordered = sorted(advances, key=lambda advance: advance.bot_id)
    if len({advance.bot_id for advance in ordered}) != len(ordered):
        raise ValueError("two advances of one bot in a batch")
    if not ordered:
        return frozenset()
    pages = {advance.bot_id: pages_of(advance, now_ms) for advance in ordered}
    moved = guards.move(transaction, [_guarded(advance) for advance in ordered], now_ms=now_ms)
    _keep_configurations(transaction, [advance for advance in ordered if moved.get(advance.bot_id)])
    saved = [advance for advance in ordered if advance.bot_id in moved]
    write_pages(transaction, [pages[advance.bot_id] for advance in saved])
    enqueue(transaction, [each for advance in saved for each in advance.notifications], now_ms=now_ms)
    return frozenset(moved)


def save_step(transaction: Transaction, advance: Advance, *, now_ms: int, fence: Fence | None = None) -> None:
    """Write one advance. Raises StaleState (write nothing more then), or LeaseLost."""
    if not save_steps(transaction, (advance,), now_ms=now_ms, fence=fence):
        raise StaleState(advance.bot_id)


def digest_of(config: str) -> str:
    return blake2b(config.encode(), digest_size=16).hexdigest()


def _guarded(advance: Advance) -> guards.Move:
    last = advance.steps[-1]
    return guards.Move(
        bot_id=advance.bot_id,
        revision=advance.revision,
        from_version=advance.from_version,
        version=advance.version,
        last_bar=last.bar,
        first_bar=advance.first_bar,
        trade_from=advance.trade_from,
        configuration=digest_of(advance.config),
        fingerprint=advance.fingerprint,
        state=last.step.state,
        value=last.step.value,
        gains=tuple(
            trade.pnlcomm for done in advance.steps for trade in done.step.trades if not trade.is_open
        ),
    )


def _keep_configurations(transaction: Transaction, advances: Sequence[Advance]) -> None:
    """Keep the texts that states were computed with, where a state has a new one."""
    for config in sorted({advance.config for advance in advances}):
        run(
            transaction,
            "INSERT INTO configurations (digest, config) VALUES (:digest, :config)"
            " ON CONFLICT (digest) DO NOTHING",
            {"digest": digest_of(config), "config": config},
        )


def trading_flags(transaction: Transaction, bot_id: int, first_bar: int) -> tuple[tuple[int, bool], ...]:
    """Return the bars stepped since `first_bar`, ascending, and whether orders were allowed on them."""
    rows = run(
        transaction,
        "SELECT bar, trading FROM bot_steps WHERE bot_id = :id AND bar >= :first ORDER BY bar",
        {"id": bot_id, "first": first_bar},
    )
    return tuple((int(row[0]), bool(row[1])) for row in rows)


def count_trades(transaction: Transaction, bot_ids: Collection[int]) -> dict[int, int]:
    """Return bot id -> closed trades, for bots that have any."""
    rows = run(
        transaction,
        f"SELECT bot_id, count(*) FROM trading_trades WHERE bot_id {in_ids(transaction)} GROUP BY bot_id",
        {"ids": ids_of(transaction, bot_ids)},
    )
    return {int(row[0]): int(row[1]) for row in rows}
