"""The one transaction of a bar: guard first, then state, step, orders, trades, positions and alerts.

What is true between any two transactions: for every bot, the state with version n, the cursor of its
n-th bar and the rows of exactly the n bars up to there are in the database. `bot_steps` with its key
(bot, bar) would refuse a bar's second row; the guard sees to it that it need not.

`save_steps` runs inside the caller's transaction, for a batch of bots, in an order that has no other:

1. The lease (`leases.assert_held`): a service whose epoch is over must not even lock a bot's row.
2. The rows of all pages are made in memory, so a step that the ledger cannot hold is found before anything
   is written. Whose it was the caller finds by halving the batch (`jobs.bar.firing`), as for any refusal.
3. The guard (`guards.move`), bot by bot: revision of the bot's row and version of its state, compared
   and swapped. Who moved, paused, edited or removed the bot since it was loaded wins. Only this answer
   says whose pages may be written, so it comes before all of them: written first, a stale step would
   have to be taken back out of a transaction that it shares with a hundred others.
4. Pages, configurations and alerts of the bots that moved. A row that the database refuses here rolls all
   of it back, guard included; the halves that are tried next begin with the guard again.

The row of a bot stays locked from its guard until the commit, so an edit waits for the step, or makes it
stale, and never slips in between. Orders leave later, once what decided them is committed.

| the process dies ... | what the next run sees |
|---|---|
| anywhere before COMMIT is sent | nothing of it: the same cursor, the same bars are due |
| with COMMIT sent and its answer lost | all of it or nothing: work begins by reading the version |
| after | all of it: version and cursor are ahead |

Rows are numbered by bot, bar and the bot's own order and trade numbers: however bars are cut into
transactions, the same rows come out.
"""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from functools import cache, reduce
from hashlib import blake2b

from persistence.columns import read_joined, selected
from persistence.leases import Fence, assert_held
from persistence.ledger import guards
from persistence.ledger.advance import Advance, Loaded
from persistence.ledger.pages import pages_of, write_pages
from persistence.money import EXACT, money
from persistence.notifications import enqueue
from persistence.rows import CONFIGURATIONS, Bot, ConfigurationRow
from persistence.setwise import ids_of, in_ids, insert_new
from persistence.transaction import Transaction, run


def load(
    transaction: Transaction, bot_ids: Collection[int], known: Mapping[int, int] | None = None
) -> tuple[Loaded, ...]:
    """Return the bots that exist, by id; without the states of versions in `known` (bot id -> version)."""
    ids = list(dict.fromkeys(bot_ids))
    versions = [(known or {}).get(bot_id, -1) for bot_id in ids]
    parameters = {"ids": ids_of(transaction, ids), "known": ids_of(transaction, versions)}
    loaded = []
    answer = run(transaction, _load_sql(transaction.dialect.name), parameters)
    for bot, found in read_joined(answer, Bot, Loaded):
        if found["state_config"] is None and found["version"]:
            found["state_config"] = bot.config
        loaded.append(Loaded(bot=bot, **found))
    return tuple(loaded)


@cache
def _load_sql(dialect: str) -> str:
    pairs = (
        "(SELECT i.value AS id, v.value AS version FROM json_each(:ids) i"
        " JOIN json_each(:known) v ON v.key = i.key) AS k"
        if dialect == "sqlite"
        else "unnest(CAST(:ids AS BIGINT[]), CAST(:known AS BIGINT[])) AS k(id, version)"
    )
    start = selected(
        Loaded,
        dialect,
        "s",
        version="coalesce(s.version, 0)",
        state="CASE WHEN s.version = k.version THEN NULL ELSE s.state END",
        # Left out of the answer where it is the row's own, as it nearly always is.
        state_config="CASE WHEN c.config = CAST(b.config AS TEXT) THEN NULL ELSE c.config END",
    )
    return (
        f"SELECT {selected(Bot, dialect, 'b')}, {start} FROM {pairs} JOIN trading_bots b ON b.id = k.id"
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
    enqueue(transaction, [alert for advance in saved for alert in advance.notifications], now_ms=now_ms)
    return frozenset(moved)


def digest_of(config: str) -> str:
    return blake2b(config.encode(), digest_size=16).hexdigest()


def _guarded(advance: Advance) -> guards.Move:
    last = advance.steps[-1]
    gains = (
        money(trade.pnlcomm) for done in advance.steps for trade in done.step.trades if not trade.is_open
    )
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
        balance=money(last.step.value),
        # In Decimal and exact, so that the sum does not depend on how bars are cut into transactions.
        gain=reduce(EXACT.add, gains, Decimal(0)),
    )


def _keep_configurations(transaction: Transaction, advances: Sequence[Advance]) -> None:
    """Keep the texts that states were computed with, where a state has a new one."""
    texts = sorted({advance.config for advance in advances})
    insert_new(transaction, CONFIGURATIONS, [ConfigurationRow(digest_of(config), config) for config in texts])


def trading_flags(transaction: Transaction, bot_id: int, first_bar: int) -> tuple[tuple[int, bool], ...]:
    """Return the bars stepped since `first_bar`, ascending, and whether orders were allowed on them."""
    rows = run(
        transaction,
        "SELECT bar, trading FROM bot_steps WHERE bot_id = :id AND bar >= :first ORDER BY bar",
        {"id": bot_id, "first": first_bar},
    )
    return tuple((bar, bool(trading)) for bar, trading in rows)


def count_trades(transaction: Transaction, bot_ids: Collection[int]) -> dict[int, int]:
    """Return bot id -> closed trades, for bots that have any."""
    rows = run(
        transaction,
        f"SELECT bot_id, count(*) FROM trading_trades WHERE bot_id {in_ids(transaction)} GROUP BY bot_id",
        {"ids": ids_of(transaction, bot_ids)},
    )
    return dict(iter(rows))
