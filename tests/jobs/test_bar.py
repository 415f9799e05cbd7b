"""R2.3, R2.6, R3.7, R8.4, R8.5, R9.4: what one fire of the bar job does, on both databases."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobs.bar.failures import FailureKind
from jobs.bar.firing import Outcome, run_bar, run_bars
from jobs.bar.runtime import open_runtime
from jobs.clock import SimulatedClock
from jobs.markets import MarketUnavailable
from jobs.settings import Settings
from persistence.bots import add_bot, get_bot, set_paused
from persistence.database_errors import DatabaseUnavailable
from persistence.schema.tables import (
    audit_log,
    bot_states,
    bot_steps,
    notifications,
    orders,
    trading_bots,
    trading_trades,
)
from scheduler.service.jobrow import FUNCTION

PLUGIN = Path(__file__).with_name("bar_strategies.py")
START = 1_700_000_100_000  # a multiple of 5 s
SECOND = 1_000
INTERVAL = 5 * SECOND


@pytest.fixture
def world(database_url, tmp_path):
    """Give the database's runtime with a clock that stands at START, and a way to open a second one."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "moves.py").write_text(PLUGIN.read_text())
    settings = Settings(
        database={"url": database_url}, strategies={"plugins": (folder,)}, markets={"settle_ms": 0}
    )
    opened = []

    def open_one(at=START):
        opened.append(open_runtime(settings, clock=SimulatedClock(at)))
        return opened[-1]

    yield open_one
    for rt in opened:
        rt.database.close()


def config_text(strategy="moves:BuyEveryOther", lookback=0, risk=None, **parameters):
    return json.dumps(
        {
            "id": "b",
            "name": "B",
            "symbol": "BTCUSDT",
            "broker": {"type": "paper", "trading_mode": "paper", "cash": 1_000_000.0, "commission": 0.0},
            "strategy": {"type": strategy, "parameters": parameters},
            "risk_management": risk or {},
            "data": {"data_source": "generated", "seed": 3, "interval": "5s", "lookback_bars": lookback},
        }
    )


def add(rt, text=None, **columns):
    with rt.database.write() as connection:
        return add_bot(connection, config=text or config_text(), now_ms=START, **columns)


def rows(rt, table, *columns, bot_id=None):
    query = sa.select(*(table.c[name] for name in columns))
    if bot_id is not None:
        query = query.where(table.c.bot_id == bot_id)
    with rt.database.read() as connection:
        return [tuple(row) for row in connection.execute(query.order_by(*query.selected_columns))]


def row_of(rt, bot_id):
    with rt.database.read() as connection:
        return get_bot(connection, bot_id)


def advance(rt, bars):
    """Let the clock pass `bars` bars, firing at every close; return the outcomes of the last fire."""
    outcomes = ()
    for _ in range(bars):
        rt.clock.at_ms += INTERVAL
        with rt.database.read() as connection:
            ids = list(connection.scalars(sa.select(trading_bots.c.id)))
        outcomes = run_bars(ids, rt)
    return outcomes


def test_the_stored_name_is_pinned():
    """DESIGN 3.1: rows of the job store name this function; renaming it would orphan them."""
    module, _, name = FUNCTION.partition(":")
    assert FUNCTION == "jobs.bar:run_bar"
    assert getattr(import_module(module), name) is run_bar


def test_each_fire_commits_one_bar(world):
    rt = world()
    bot = add(rt)
    run_bars([bot], rt)  # the first fire starts the bot; no bar has closed since
    assert advance(rt, 4) == (Outcome(bot, 1),)
    assert [bar for (bar,) in rows(rt, bot_steps, "bar")] == [START + n * INTERVAL for n in range(4)]
    assert row_of(rt, bot).status == "running"
    assert row_of(rt, bot).last_heartbeat == rt.clock.at_ms


def test_firing_twice_or_late_changes_nothing(world):
    """Promise 2: late and double fires."""
    punctual, sloppy = world(), world()
    first, second = add(punctual), add(sloppy)
    for rt, bot in ((punctual, first), (sloppy, second)):
        run_bars([bot], rt)
    for _ in range(6):
        punctual.clock.at_ms += INTERVAL
        run_bars([first], punctual)
        run_bars([first], punctual)
    sloppy.clock.at_ms += 6 * INTERVAL
    assert run_bars([second], sloppy) == (Outcome(second, 6),)
    assert run_bars([second], sloppy) == (Outcome(second, 0),)
    columns = ("bar", "version", "equity", "positions", "orders", "trades")
    assert rows(punctual, bot_steps, *columns, bot_id=first) == rows(
        sloppy, bot_steps, *columns, bot_id=second
    )
    assert len(rows(punctual, bot_steps, "bar", bot_id=first)) == 6


def test_a_bot_without_a_new_bar_still_shows_that_it_lives(world):
    """R9.5: last_heartbeat is true."""
    rt = world()
    bot = add(rt)
    run_bars([bot], rt)
    advance(rt, 1)
    rt.clock.at_ms += SECOND
    assert run_bars([bot], rt) == (Outcome(bot, 0),)
    assert row_of(rt, bot).last_heartbeat == rt.clock.at_ms


def test_a_long_absence_is_caught_up_in_parts(world):
    rt = replace(world(), most_bars=10)
    bot = add(rt)
    run_bars([bot], rt)
    rt.clock.at_ms += 25 * INTERVAL
    assert run_bars([bot], rt) == (Outcome(bot, 10, behind=True),)
    assert run_bars([bot], rt) == (Outcome(bot, 10, behind=True),)
    assert run_bars([bot], rt) == (Outcome(bot, 5),)
    assert len(rows(rt, bot_steps, "bar")) == 25


def test_lookback_bars_are_seen_but_not_traded(world):
    rt = world()
    bot = add(rt, config_text(lookback=30))
    run_bars([bot], rt)
    flags = rows(rt, bot_steps, "bar", "trading")
    assert flags == [(START + n * INTERVAL, False) for n in range(-30, 0)]
    assert rows(rt, trading_trades, "number") == []
    assert {status for (status,) in rows(rt, orders, "status")} == {"Rejected"}
    assert rows(rt, notifications, "key") == []
    advance(rt, 4)
    assert rows(rt, bot_steps, "trading")[-4:] == [(True,)] * 4
    assert len(rows(rt, trading_trades, "number")) >= 1


def test_a_bot_that_fails_waits_and_others_go_on(world):
    """R2.3, R8.4: counted, backed off 1, 2, 4 ... s; the cursor stays; the others are not touched."""
    rt = world()
    bad, good = add(rt, config_text("moves:FailsOnBar")), add(rt)
    run_bars([bad, good], rt)
    advance(rt, 4)
    outcomes = {outcome.bot_id: outcome for outcome in advance(rt, 1)}
    assert outcomes[good].failure is None
    failure = outcomes[bad].failure
    assert failure.kind is FailureKind.STRATEGY
    assert "ZeroDivisionError: planted (moves.py:23)" in failure.message
    assert failure.retry_at_ms == rt.clock.at_ms + 1_000
    assert run_bars([bad], rt) == ()  # waits
    row = row_of(rt, bad)
    assert (row.error_count, row.status) == (1, "running")
    assert "planted" in row.last_error
    rt.clock.at_ms += 1_000
    assert run_bars([bad], rt)[0].failure.retry_at_ms == rt.clock.at_ms + 2_000
    assert len(rows(rt, bot_steps, "bar", bot_id=bad)) == 4
    assert len(rows(rt, bot_steps, "bar", bot_id=good)) == 5


def test_a_bar_that_fails_does_not_take_back_the_bars_before_it(world):
    rt = world()
    bot = add(rt, config_text("moves:FailsOnBar"))
    run_bars([bot], rt)
    rt.clock.at_ms += 10 * INTERVAL
    (outcome,) = run_bars([bot], rt)
    assert outcome.bars == 4
    assert f"bar {START + 4 * INTERVAL}" in outcome.failure.message
    assert len(rows(rt, bot_steps, "bar")) == 4


REFUSE = {
    "sqlite": "CREATE TRIGGER planted BEFORE INSERT ON bot_steps WHEN NEW.bot_id = {}"
    " BEGIN SELECT RAISE(ABORT, 'planted'); END",
    "postgresql": "ALTER TABLE bot_steps ADD CONSTRAINT planted CHECK (bot_id <> {})",
}


def test_a_step_that_cannot_be_written_fails_alone(world):
    """R2.3: a batch shares a transaction, and still one bot's rows take only itself out."""
    rt = world()
    *bots, unwritable = [add(rt) for _ in range(6)]
    run_bars([*bots, unwritable], rt)
    with rt.database.write() as connection:
        connection.exec_driver_sql(REFUSE[rt.database.dialect].format(unwritable))
    outcomes = {outcome.bot_id: outcome for outcome in advance(rt, 1)}
    assert [outcomes[bot].bars for bot in bots] == [1] * 5
    assert "its step cannot be written" in outcomes[unwritable].failure.message
    assert rows(rt, bot_steps, "bar", bot_id=unwritable) == []
    assert row_of(rt, unwritable).error_count == 1


def test_too_many_failures_stop_the_bot_and_an_edit_gives_it_a_new_chance(world):
    """R8.8, R4.3: status error, an alert; the next edit of the row makes it run again."""
    rt = world()
    bot = add(rt, config_text("moves:FailsOnBar"))
    run_bars([bot], rt)
    advance(rt, 4)
    for _ in range(8):
        rt.clock.at_ms += 600_000
        (outcome,) = run_bars([bot], rt)
    assert outcome.failure.retry_at_ms is None
    assert row_of(rt, bot).status == "error"
    assert run_bars([bot], rt) == ()
    assert any("STOPPED" in body for (body,) in rows(rt, notifications, "body"))
    with rt.database.write() as connection:
        connection.execute(trading_bots.update().values(config=config_text("moves:FailsOnBar", bar=10**9)))
    assert row_of(rt, bot).error_count == 0
    (outcome,) = run_bars([bot], rt)
    assert outcome.failure is None
    assert outcome.bars > 0
    assert row_of(rt, bot).status == "running"


@pytest.mark.parametrize("text", ["{", "[]", config_text(nonsense=1)])
def test_a_configuration_that_is_wrong_stops_only_its_bot(world, text):
    """R1.4, R8.5."""
    if text == "{" and "postgresql" in world().database.dialect:
        pytest.skip("PostgreSQL's jsonb refuses it at the INSERT")
    rt = world()
    good, bad = add(rt), add(rt, text)
    run_bars([good, bad], rt)
    outcomes = {outcome.bot_id: outcome for outcome in advance(rt, 1)}
    assert outcomes[good].bars == 1
    assert bad not in outcomes
    row = row_of(rt, bad)
    assert row.status == "error"
    assert row.last_error.startswith("configuration: ")


def test_an_unknown_strategy_falls_back_and_the_owner_is_told(world):
    """R3.3: CustomStrategy in its place, which without logic takes no position."""
    rt = world()
    bot = add(rt, config_text("moves:Nobody"))
    run_bars([bot], rt)
    assert advance(rt, 3) == (Outcome(bot, 1),)
    assert rows(rt, orders, "number") == []
    bodies = [body for (body,) in rows(rt, notifications, "body")]
    assert len(bodies) == 1
    assert "FALLBACK: strategy.type: found Nobody" in bodies[0]


def test_a_running_bot_is_never_replaced_by_the_fallback(world):
    """Its position would be left to a strategy without logic (D9)."""
    rt = world()
    bot = add(rt)
    run_bars([bot], rt)
    advance(rt, 3)
    with rt.database.write() as connection:
        connection.execute(trading_bots.update().values(config=config_text("moves:Nobody")))
    advance(rt, 3)
    assert len(rows(rt, trading_trades, "number")) == 2
    assert any("CONFIG_REFUSED" in body for (body,) in rows(rt, notifications, "body"))


def test_an_edit_that_is_wrong_leaves_the_bot_on_its_last_good_configuration(world):
    rt = world()
    bot = add(rt)
    run_bars([bot], rt)
    advance(rt, 2)
    with rt.database.write() as connection:
        connection.execute(trading_bots.update().values(config='{"id": "b"}'))
    assert advance(rt, 2) == (Outcome(bot, 1),)
    assert row_of(rt, bot).status == "running"
    bodies = [body for (body,) in rows(rt, notifications, "body") if "CONFIG_REFUSED" in body]
    assert len(bodies) == 1, "said once, not at every bar"


def test_changed_parameters_take_over_what_the_bot_has(world):
    """R3.7: at the next bar; account, position and the strategy's memory stay."""
    rt = world()
    bot = add(rt, config_text("moves:Remembers", lookback=10))
    run_bars([bot], rt)
    advance(rt, 12)
    before = rows(rt, bot_steps, "bar", "equity", "cash")[-1]
    with rt.database.write() as connection:
        connection.execute(
            trading_bots.update().values(config=config_text("moves:Remembers", lookback=10, step=2))
        )
    advance(rt, 3)
    after = rows(rt, bot_steps, "bar", "equity", "cash")
    assert len(after) == 10 + 15
    assert after[-3][0] == before[0] + INTERVAL
    assert after[-3][2] == before[2], "cash is the bot's, not the configuration's"


def test_a_bot_in_position_without_lookback_bars_takes_a_change_over(world):
    """R3.7: the account is valued at the last close, so a rebuild needs one bar at least."""
    rt = world()
    bot = add(rt, config_text(lookback=0))
    run_bars([bot], rt)
    advance(rt, 3)
    assert rows(rt, bot_steps, "positions")[-1] != ("[]",)
    with rt.database.write() as connection:
        connection.execute(trading_bots.update().values(config=config_text(lookback=0, size=2.0)))
    assert advance(rt, 3) == (Outcome(bot, 1),)


@pytest.mark.parametrize("risk", [{}, {"stop_loss_pct": 0.4, "take_profit_pct": 0.4}])
def test_a_change_that_decides_nothing_leaves_the_ledger_as_it_would_have_been(world, risk):
    """R3.7, D9: account, position and protective orders are carried into the changed strategy."""
    rt = world()
    quiet, edited = (add(rt, config_text("moves:Labelled", lookback=40, risk=risk)) for _ in range(2))
    run_bars([quiet, edited], rt)
    for turn in range(12):
        advance(rt, 7)
        changed = config_text("moves:Labelled", lookback=40, risk=risk, label=f"b{turn}")
        with rt.database.write() as connection:
            connection.execute(
                trading_bots.update().where(trading_bots.c.id == edited).values(config=changed)
            )
    columns = ("bar", "equity", "cash", "positions")
    expected = rows(rt, bot_steps, *columns, bot_id=quiet)
    found = rows(rt, bot_steps, *columns, bot_id=edited)
    differing = [(left, right) for left, right in zip(expected, found, strict=True) if left != right]
    assert differing == []
    trades = ("number", "entry_bar", "exit_bar", "entry_price", "exit_price", "net_pnl", "exit_reason")
    assert rows(rt, trading_trades, *trades, bot_id=quiet) == rows(rt, trading_trades, *trades, bot_id=edited)
    assert len(rows(rt, trading_trades, "number", bot_id=quiet)) >= 4
    assert row_of(rt, edited).total_pnl == row_of(rt, quiet).total_pnl


def test_a_deeper_read_is_mended_by_replaying_the_stored_bars(world):
    """A read behind the kept history: the result is that of a bot that kept everything."""
    kept, mended = world(), world()
    depths = {"depth": 60, "since": 80}
    whole, cut = (add(rt, config_text("moves:LooksBack", **depths)) for rt in (kept, mended))
    for rt, bot in ((kept, whole), (mended, cut)):
        run_bars([bot], rt)
    kept.clock.at_ms += 150 * INTERVAL
    run_bars([whole], kept)  # one catch-up, in which no history is cut
    advance_one(mended, cut, 150)
    columns = ("bar", "equity", "cash", "positions")
    expected = rows(kept, bot_steps, *columns, bot_id=whole)
    assert rows(mended, bot_steps, *columns, bot_id=cut) == expected
    assert len(expected) == 150
    assert len({equity for _, equity, _, _ in expected}) > 10, "it has to have traded"


class Lost:
    """Markets whose stored bars of long ago cannot be read."""

    def __init__(self, markets, error):
        self.markets, self.error = markets, error

    def series(self, symbol, data):
        return self.markets.series(symbol, data)

    def closed_bars(self, series, after, until):
        if after < START:
            raise self.error
        return self.markets.closed_bars(series, after, until)


def test_a_database_lost_while_a_life_is_replayed_is_not_the_strategys_fault(world):
    """R8.6, R8.8: the batch is tried again, nobody is charged, and the ledger is as it would have been."""
    rt = world()
    bot = add(rt, config_text("moves:LooksBack", depth=60, since=80))
    run_bars([bot], rt)
    advance_one(rt, bot, 79)
    rt.clock.at_ms += INTERVAL
    with pytest.raises(DatabaseUnavailable):
        run_bars([bot], replace(rt, markets=Lost(rt.markets, DatabaseUnavailable("planted"))))
    assert row_of(rt, bot).error_count == 0
    (outcome,) = run_bars([bot], replace(rt, markets=Lost(rt.markets, MarketUnavailable("planted"))))
    assert outcome.failure.kind is FailureKind.EXCHANGE
    rt.clock.at_ms += INTERVAL
    assert run_bars([bot], rt) == (Outcome(bot, 2),)


def advance_one(rt, bot, bars):
    for _ in range(bars):
        rt.clock.at_ms += INTERVAL
        assert run_bars([bot], rt) == (Outcome(bot, 1),)


def test_a_paused_bot_sees_what_it_missed_without_trading_on_it(world):
    """Commands: pause means no new orders, also for the bars of the pause."""
    rt = world()
    bot = add(rt)
    run_bars([bot], rt)
    advance(rt, 4)
    with rt.database.write() as connection:
        set_paused(connection, bot, paused=True)
    assert advance(rt, 6) == ()
    with rt.database.write() as connection:
        set_paused(connection, bot, paused=False)
        # Resumed now, by the clock of this test: the trigger took the database's.
        moment = trading_bots.c.resumed_at
        connection.execute(trading_bots.update().values({moment: rt.clock.at_ms}))
    advance(rt, 2)
    flags = [trading for (_, trading) in rows(rt, bot_steps, "bar", "trading")]
    assert flags == [True] * 4 + [False] * 6 + [True] * 2


def test_a_pause_between_reading_and_committing_is_honoured(world):
    """A6, F23: once the pause is committed, a step that was begun before it is void."""
    rt, operator = world(), world()
    bot = add(rt)
    run_bars([bot], rt)
    rt.clock.at_ms += INTERVAL

    def pause_in_between(bot_id):
        if bot_id is not None:
            with operator.database.write() as connection:
                set_paused(connection, bot_id, paused=True)

    assert run_bars([bot], replace(rt, watch=pause_in_between)) == (Outcome(bot, 0, behind=True),)
    assert rows(rt, bot_steps, "bar") == []
    assert run_bars([bot], rt) == ()


def test_two_processes_on_one_bot_write_each_bar_once(world):
    """Promise 2: the second one's work is void, whatever it had cached."""
    one, other = world(), world()
    bot = add(one)
    run_bars([bot], one)
    for turn in range(8):
        for rt in (one, other) if turn % 2 else (other, one):
            rt.clock.at_ms = START + (turn + 1) * INTERVAL
            run_bars([bot], rt)
    assert [version for (version,) in rows(one, bot_steps, "version")] == list(range(1, 9))
    assert rows(one, bot_states, "version") == [(8,)]


def test_edits_are_audited_with_old_and_new_value(world):
    rt = world()
    bot = add(rt)
    with rt.database.write() as connection:
        connection.execute(trading_bots.update().values(schedule="*/5 * * * *"))
    found = rows(rt, audit_log, "action", "old", "new", bot_id=bot)
    assert any("*/5 * * * *" in (new or "") for _, _, new in found)


IMPOSSIBLE = {
    "a cursor ahead of the clock": f"UPDATE bot_states SET last_bar = last_bar + {400 * 86_400_000}",
    "a version without a step": "DELETE FROM bot_steps",
    "steps without a state": "bot_states",
    "a state older than its steps": "UPDATE bot_states SET last_bar = last_bar - 5000",
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_cannot_be_is_said_and_not_waited_for(world, what):
    """R8.5, R9.4: status error with reason and remedy, and an alert, instead of silence for a year."""
    rt = world()
    bot, other = add(rt), add(rt)
    run_bars([bot, other], rt)
    advance(rt, 3)
    with rt.database.write() as connection:
        if IMPOSSIBLE[what] == "bot_states":
            connection.exec_driver_sql("CREATE TABLE kept AS SELECT * FROM bot_steps")
            connection.exec_driver_sql(f"DELETE FROM trading_bots WHERE id = {bot}")
            connection.exec_driver_sql(f"INSERT INTO bot_steps SELECT * FROM kept WHERE bot_id = {bot}")
        else:
            connection.exec_driver_sql(f"{IMPOSSIBLE[what]} WHERE bot_id = {bot}")
    if IMPOSSIBLE[what] == "bot_states":
        with rt.database.write() as connection:
            text = config_text()
            connection.execute(trading_bots.insert().values(id=bot, config=text))
    fresh = world(rt.clock.at_ms)
    advance(fresh, 1)
    row = row_of(fresh, bot)
    assert row.status == "error"
    assert "this cannot be: it" in row.last_error
    assert "restore bot_states and bot_steps from one backup" in row.last_error
    assert any("STOPPED" in body for (body,) in rows(fresh, notifications, "body"))
    assert row_of(fresh, other).last_error is None


def test_a_row_that_wants_to_trade_live_is_refused_and_does_not_trade_on_paper(world):
    rt = world()
    bot = add(rt, type_="live")
    run_bars([bot], rt)
    row = row_of(rt, bot)
    assert row.status == "error"
    assert 'type: found "live", allowed: "paper"; this version trades on paper only' in row.last_error
    assert next(body for (body,) in rows(rt, notifications, "body")).startswith("[B] STOPPED"), "by its name"


@pytest.mark.parametrize("lookback", [30, 31])
def test_orders_that_were_only_suppressed_are_no_news_for_the_owner(world, lookback):
    """The last bar without trading is told of by the first one with it; nobody has refused anything."""
    rt = world()
    bot = add(rt, config_text(lookback=lookback))
    run_bars([bot], rt)
    advance(rt, 4)
    assert [body for (body,) in rows(rt, notifications, "body") if "REFUSED" in body] == []
    with rt.database.write() as connection:
        set_paused(connection, bot, paused=True)
    rt.clock.at_ms += 4 * INTERVAL
    with rt.database.write() as connection:
        set_paused(connection, bot, paused=False)
        connection.execute(trading_bots.update().values(resumed_at=rt.clock.at_ms))
    advance(rt, 4)
    assert [body for (body,) in rows(rt, notifications, "body") if "REFUSED" in body] == []
