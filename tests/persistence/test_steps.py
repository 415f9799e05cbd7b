from decimal import Decimal

import pytest
from stories import (
    FEED,
    HELD,
    LIFE,
    MINUTE,
    NOW,
    add_bots,
    advance,
    closed,
    everything,
    filled,
    order,
    save,
    step,
    trade,
    version_of,
)  # fmt: skip

from persistence.bots import get_bot, record_failure, remove_bot, set_paused
from persistence.database_errors import LeaseLost, UnsavableStep
from persistence.leases import Fence, acquire
from persistence.ledger import history
from persistence.ledger.pages import client_order_id
from persistence.ledger.steps import count_trades, load, save_steps, trading_flags
from persistence.notifications import Notification, latest
from strategies.values import Position


def test_r9_10_what_a_step_says_is_in_the_database(database):
    (bot,) = add_bots(database)
    alert = Notification(f"{bot}:60000:buy", bot, MINUTE, "buy", "title", "body")
    assert save(
        database,
        advance(
            bot, LIFE[:2], config='{"n": 1}', first_bar=MINUTE, trade_from=MINUTE, notifications=(alert,)
        ),
    ) == {bot}
    with database.read() as connection:
        (loaded,) = load(connection, (bot,))
        assert (loaded.version, loaded.last_bar, loaded.state) == (2, 2 * MINUTE, b"s2")
        assert (loaded.first_bar, loaded.trade_from) == (MINUTE, MINUTE)
        assert (loaded.state_config, loaded.fingerprint) == ('{"n": 1}', "code")
        (bought,) = history.read_orders(connection, bot)
        assert (bought.number, bought.status, bought.bar, bought.updated_bar) == (
            1,
            "Completed",
            MINUTE,
            2 * MINUTE,
        )
        assert (bought.symbol, bought.feed, bought.price) == ("BTC/USDT", FEED, Decimal("43000.1"))
        assert bought.client_order_id == client_order_id(bot, MINUTE, 1)
        (position,) = history.open_positions(connection)[bot]
        assert (position.side, position.quantity, position.price) == (
            "long",
            Decimal("0.5"),
            Decimal("43000.1"),
        )
        second, first = history.read_steps(connection, bot)
        assert (first.bar, first.version, first.orders, first.trades) == (MINUTE, 1, 1, 0)
        assert (second.cash, second.equity) == (Decimal("-11500.05"), Decimal("10000.25"))
        assert second.positions == '{"BTCUSDT": ["0.5", "43000.1"]}'
        assert latest(connection, 10) == (alert,)
        assert history.read_trades(connection, bot) == ()


def test_r9_2_a_closed_trade_is_a_row_with_prices_times_logic_and_reason(database):
    (bot,) = add_bots(database)
    save(database, advance(bot))
    with database.read() as connection:
        (row,) = history.read_trades(connection, bot)
        assert history.open_positions(connection) == {}
        assert count_trades(connection, [bot, 99]) == {bot: 1}
        entry_time = connection.exec_driver_sql(
            "SELECT CAST(entry_time AS TEXT) FROM trading_trades"
        ).first()[0]
    assert (row.symbol, row.side, row.quantity) == ("BTC/USDT", "long", Decimal("0.5"))
    assert (row.entry_bar, row.entry_price, row.exit_bar) == (2 * MINUTE, Decimal("43000.1"), 4 * MINUTE)
    assert (row.exit_price, row.commission) == (Decimal("43100.3"), Decimal("0.2"))
    assert (row.gross_pnl, row.net_pnl) == (Decimal("50.1"), Decimal("49.9"))
    assert (row.entry_logic, row.exit_logic, row.exit_reason) == (
        "RSIBBVolumeEntryMixin",
        "ATRExitMixin",
        "stop",
    )
    assert (row.entry_order, row.exit_order, row.bars) == (1, 2, 2)
    assert entry_time.replace("T", " ").startswith("1970-01-01 00:02:00")


def test_r9_3_r9_5_r9_9_the_bots_row_follows_its_steps(database):
    (bot,) = add_bots(database)
    with database.write() as connection:
        record_failure(connection, bot, kind="network", message="x", now_ms=NOW, retry_at_ms=NOW + 5)
    save(database, advance(bot))
    with database.read() as connection:
        row = get_bot(connection, bot)
    assert (row.current_balance, row.total_pnl) == (Decimal("10050.15"), Decimal("49.9"))
    assert (row.error_count, row.last_error, row.retry_at, row.last_heartbeat) == (0, None, None, NOW)
    assert row.revision == 1


@pytest.mark.parametrize("cuts", [(5,), (1, 1, 1, 1, 1), (2, 3), (3, 2), (1, 4), (4, 1)])
def test_the_same_rows_however_bars_are_cut_into_transactions(database, cuts):
    whole, cut = add_bots(database, 2)
    save(database, advance(whole))
    done = 0
    for length in cuts:
        save(database, advance(cut, LIFE[done : done + length], from_version=done))
        done += length
    tables = everything(database)
    for name in ("bot_states", "bot_steps", "orders", "trading_trades", "trading_positions"):
        of_whole = [row[1:] for row in tables[name] if row[0] == whole]
        of_cut = [row[1:] for row in tables[name] if row[0] == cut]
        if name == "orders":  # the client's id names the bot
            of_whole, of_cut = ([(row[0], *row[2:]) for row in rows] for rows in (of_whole, of_cut))
        assert of_whole == of_cut, name


def test_a_stale_version_writes_nothing_at_all(database):
    (bot,) = add_bots(database)
    save(database, advance(bot, LIFE[:3]))
    before = everything(database, timing=True)
    alert = Notification("late", bot, 1, "x", "t", "b")
    for from_version in (0, 1, 2, 4, 99):
        late = advance(bot, LIFE[3:], from_version=from_version, config="other", notifications=(alert,))
        assert save(database, late) == frozenset()
    assert everything(database, timing=True) == before


def test_stale_bots_of_a_batch_take_only_themselves_out(database):
    bots = add_bots(database, 6)
    save(database, *(advance(bot, LIFE[:1]) for bot in bots[::2]))
    batch = [advance(bot, LIFE[:1]) for bot in bots] + [advance(10_000, LIFE[:1])]
    assert save(database, *batch) == set(bots[1::2])
    assert [version_of(database, bot) for bot in bots] == [1] * 6
    assert len(everything(database)["bot_steps"]) == 6


@pytest.mark.parametrize("edit", ["pause", "plain", "remove", "readd"])
def test_an_edit_since_the_load_makes_the_step_stale(database, edit):
    bot, other = add_bots(database, 2)
    with database.write() as connection:
        if edit == "pause":
            set_paused(connection, bot, paused=True)
        elif edit == "plain":
            connection.exec_driver_sql(f"UPDATE trading_bots SET description = 'x' WHERE id = {bot}")
        else:
            remove_bot(connection, bot)
    if edit == "readd":
        assert add_bots(database) != [bot]
    saved = save(database, advance(bot, LIFE[:1], revision=1), advance(other, LIFE[:1], revision=1))
    assert saved == {other}
    assert {row[0] for row in everything(database)["bot_steps"]} == {other}


def test_a_step_after_the_removal_of_the_bot_is_stale_also_unguarded(database):
    (bot,) = add_bots(database)
    save(database, advance(bot, LIFE[:1]))
    with database.write() as connection:
        remove_bot(connection, bot)
    assert save(database, advance(bot, LIFE[:1])) == frozenset()
    assert save(database, advance(bot, LIFE[1:2], from_version=1)) == frozenset()


def test_load_leaves_out_states_that_the_caller_has(database):
    one, two, three = add_bots(database, 3)
    save(database, advance(one, LIFE[:1]), advance(two, LIFE[:2]))
    with database.read() as connection:
        loaded = load(connection, (three, two, one, 77, one), {one: 1, two: 1})
    assert [(each.bot.id, each.version, each.state) for each in loaded] == [
        (one, 1, None),
        (two, 2, b"s2"),
        (three, 0, None),
    ]
    with database.read() as connection:
        assert load(connection, ()) == ()


def test_a_configuration_is_kept_once_and_follows_the_state(database):
    one, two = add_bots(database, 2)
    with database.read() as connection:
        own = get_bot(connection, one).config
    save(database, advance(one, LIFE[:1], config=own), advance(two, LIFE[:1], config=own))
    with database.write() as connection:
        connection.exec_driver_sql(f'UPDATE trading_bots SET config = \'{{"name": "new"}}\' WHERE id = {one}')
    with database.read() as connection:
        first, second = load(connection, (one, two))
        assert (first.state_config, first.bot.config) == (own, '{"name": "new"}')
        assert second.state_config == own == f"{own}"
    save(database, advance(one, LIFE[1:2], from_version=1, config='{"name": "new"}'))
    with database.read() as connection:
        assert load(connection, (one,))[0].state_config == '{"name": "new"}'
    assert len(everything(database)["configurations"]) == 2


def test_trading_flags_say_on_which_bars_orders_were_allowed(database):
    (bot,) = add_bots(database)
    save(database, advance(bot, tuple((bar, each, bar >= 3 * MINUTE) for bar, each in LIFE)))
    with database.read() as connection:
        flags = trading_flags(connection, bot, 2 * MINUTE)
    assert flags == ((2 * MINUTE, False), (3 * MINUTE, True), (4 * MINUTE, True), (5 * MINUTE, True))


def test_an_open_position_follows_executions_that_no_trade_event_tells_of(database):
    (bot,) = add_bots(database)
    more = (Position(FEED, 0.75, 43_010.5),)
    life = (*LIFE[:2], (3 * MINUTE, step(orders=(filled(3, size=0.25, executed_size=0.25),), positions=more)))
    save(database, advance(bot, life))
    with database.read() as connection:
        (position,) = history.open_positions(connection, [bot])[bot]
    assert (position.quantity, position.price) == (Decimal("0.75"), Decimal("43010.5"))


def test_several_feeds_have_their_symbols(database):
    (bot,) = add_bots(database)
    first = step(
        orders=(order(1), order(2, feed="eth")), trades=(trade(1), trade(2, feed="eth", is_long=False))
    )
    save(database, advance(bot, ((MINUTE, first),), symbols={"eth": "ETH/USDT"}))
    with database.read() as connection:
        orders = {each.feed: each.symbol for each in history.read_orders(connection, bot)}
        held = {each.feed: (each.symbol, each.side) for each in history.open_positions(connection)[bot]}
    assert orders == {FEED: "BTC/USDT", "eth": "ETH/USDT"}
    assert held == {FEED: ("BTC/USDT", "long"), "eth": ("ETH/USDT", "short")}


def test_money_is_exact_to_the_last_digit(database):
    (bot,) = add_bots(database)
    gains = (0.1, 0.2, 1e-20, 1e22, -1e22, 5e-324, 123456789.123456789)
    for number, gain in enumerate(gains):
        bar = (number + 1) * MINUTE
        last = step(trades=(closed(number + 1, pnlcomm=gain),), cash=gain, value=1.0000000000000002)
        save(database, advance(bot, ((bar, last),), from_version=number))
    with database.read() as connection:
        total = get_bot(connection, bot).total_pnl
        rows = history.read_steps(connection, bot)
        net = [each.net_pnl for each in reversed(history.read_trades(connection, bot))]
    expected = Decimal("0.3") + Decimal("123456789.12345679")
    assert net == [Decimal(repr(gain)) for gain in gains]
    assert [each.cash for each in reversed(rows)] == net
    assert rows[0].equity == Decimal("1.0000000000000002")
    small = Decimal(repr(1e-20))
    assert abs(total - expected - small) < Decimal("1e-300")
    assert total != expected + small  # 5e-324 is still in it


def test_values_that_are_no_plain_numbers_are_kept(database):
    (bot,) = add_bots(database)
    odd = step(cash=float("nan"), value=float("inf"), positions=(Position(FEED, float("-inf"), 0.0),))
    assert save(database, advance(bot, ((MINUTE, odd),))) == {bot}
    with database.read() as connection:
        (row,) = history.read_steps(connection, bot)
        assert row.cash.is_nan()
        assert row.equity == Decimal("Infinity")
        assert get_bot(connection, bot).current_balance == Decimal("Infinity")


def test_text_that_no_database_keeps_breaks_no_batch(database):
    bad, good = add_bots(database, 2)
    nasty = closed(exit_info={"reason": "a\0b\ud800c", "logic": "\u20ac"})
    ended = step(trades=(nasty,), orders=(order(info={"x\0": "\ud800"}),))
    alert = Notification("key", bad, None, "kind", "t\0", "b\udfff")
    saved = save(database, advance(bad, ((MINUTE, ended),), notifications=(alert,)), advance(good, LIFE[:1]))
    assert saved == {bad, good}
    with database.read() as connection:
        (row,) = history.read_trades(connection, bad)
        assert (row.exit_reason, row.exit_logic) == ("a\\x00b\\ud800c", "\u20ac")
        assert latest(connection, 10)[0].title == "t\\x00"


def test_a_trade_that_ends_nowhere_names_its_bot_before_anything_is_written(database):
    good, bad = add_bots(database, 2)
    broken = step(trades=(closed(exit_price=None),))
    with pytest.raises(UnsavableStep, match=f"bot {bad} ") as caught:
        save(database, advance(good, LIFE[:1]), advance(bad, ((MINUTE, broken),)))
    assert caught.value.bot_id == bad
    assert everything(database)["bot_steps"] == []


def test_an_advance_needs_a_step_and_a_batch_has_a_bot_once(database):
    (bot,) = add_bots(database)
    with pytest.raises(ValueError, match="without a step"):
        advance(bot, ())
    with pytest.raises(ValueError, match="two advances"):
        save(database, advance(bot), advance(bot))
    assert save(database) == frozenset()


def test_i6_a_lost_lease_writes_nothing(database):
    (bot,) = add_bots(database)
    with database.write() as connection:
        lease = acquire(connection, "leader", "one", 1_000)
    fence = Fence("leader", lease.epoch)
    assert save(database, advance(bot, LIFE[:1]), fence=fence) == {bot}
    with database.write() as connection:
        acquire(connection, "leader", "two", 1_000, take=True)
    before = everything(database, timing=True)
    with pytest.raises(LeaseLost):
        save(database, advance(bot, LIFE[1:2], from_version=1), fence=fence)
    assert everything(database, timing=True) == before


def test_an_exception_in_the_transaction_takes_all_of_it_back(database):
    (bot,) = add_bots(database)
    before = everything(database, timing=True)

    def transaction():
        with database.write() as connection:
            save_steps(connection, [advance(bot)], now_ms=NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        transaction()
    assert everything(database, timing=True) == before


def test_client_order_ids_fit_the_venues():
    longest = client_order_id(9_999_999, 4_102_444_800_000, 99_999_999)
    assert len(longest) <= 36
    assert longest.replace("-", "").isalnum()


def test_an_order_keeps_the_bar_that_decided_it(database):
    (bot,) = add_bots(database)
    for number, status in enumerate(("Submitted", "Accepted", "Partial", "Completed", "Canceled")):
        bar = (number + 1) * MINUTE
        told = step(
            orders=(order(status="Submitted", created_at=MINUTE), order(status=status, created_at=MINUTE))
        )
        save(database, advance(bot, ((bar, told),), from_version=number))
    with database.read() as connection:
        (row,) = history.read_orders(connection, bot)
    assert (row.status, row.bar, row.updated_bar) == ("Canceled", MINUTE, 5 * MINUTE)


def test_a_batch_of_a_thousand(database):
    bots = add_bots(database, 1_000)
    assert save(database, *(advance(bot, LIFE[:2], revision=1) for bot in reversed(bots))) == set(bots)
    assert save(database, *(advance(bot, LIFE[2:], from_version=2) for bot in bots)) == set(bots)
    with database.read() as connection:
        assert sum(count_trades(connection, bots).values()) == 1_000
        assert all(each.version == 5 for each in load(connection, bots, dict.fromkeys(bots, 5)))


def test_advance_counts_its_bars():
    assert advance(1, from_version=3).version == 8
    assert HELD[0].feed == FEED
