"""D8, R3, R4.8: risk rules inside Backtrader's broker, on bars whose outcome is computed by hand."""

import random

import backtrader as bt
import pytest
from handmade import HOUR, OHLC, ListFeed, Ran, Scripted, flat, run

from strategies.risk import RiskBroker, is_protective

STOP, LIMIT, MARKET = bt.Order.Stop, bt.Order.Limit, bt.Order.Market


def guarded(bars, script, **limits) -> Ran:
    extra = {name: limits.pop(name) for name in ("cash", "commission", "every") if name in limits}
    return run(bars, script, RiskBroker(**limits), **extra)


# Protection


def test_a_stop_loss_is_a_real_order_at_its_distance_from_the_entry():
    bars = [*flat(100, 3), OHLC(100, 101, 96, 97), *flat(97, 2)]
    ran = guarded(bars, {0: lambda s: s.buy(size=2)}, stop_loss_pct=3.0, take_profit_pct=6.0)
    assert ran.fills() == [(1, "buy", 2, 100, ""), (3, "sell", -2, 97, "stop_loss")]
    assert ran.fills("Accepted")[1:] == [
        (1, "sell", -2, 97, "stop_loss"),
        (1, "sell", -2, 106, "take_profit"),
    ]
    assert ran.fills("Canceled") == [(3, "sell", -2, 106, "take_profit")]
    assert ran.trades == (-6,)


def test_a_take_profit_cancels_the_stop():
    bars = [*flat(100, 3), OHLC(100, 107, 99, 104), *flat(90, 3)]
    ran = guarded(bars, {0: lambda s: s.buy(size=2)}, stop_loss_pct=3.0, take_profit_pct=6.0)
    assert ran.fills() == [(1, "buy", 2, 100, ""), (3, "sell", -2, 106, "take_profit")]
    assert ran.positions[-1] == (0,)


def test_one_bar_that_reaches_both_prices_fills_the_stop():
    bars = [*flat(100, 3), OHLC(100, 110, 90, 100), *flat(100, 2)]
    ran = guarded(bars, {0: lambda s: s.buy(size=1)}, stop_loss_pct=3.0, take_profit_pct=6.0)
    assert ran.fills()[1:] == [(3, "sell", -1, 97, "stop_loss")]


def test_a_gap_through_the_stop_fills_at_the_open():
    bars = [*flat(100, 3), OHLC(90, 91, 89, 90), *flat(90, 2)]
    ran = guarded(bars, {0: lambda s: s.buy(size=1)}, stop_loss_pct=3.0)
    assert ran.fills()[1:] == [(3, "sell", -1, 90, "stop_loss")]


def test_only_one_of_both_may_be_set():
    bars = [*flat(100, 3), OHLC(100, 120, 50, 100), *flat(100, 2)]
    ran = guarded(bars, {0: lambda s: s.buy(size=1)}, take_profit_pct=6.0)
    assert ran.fills()[1:] == [(3, "sell", -1, 106, "take_profit")]


def test_a_short_position_is_protected_the_other_way_round():
    rising = [*flat(100, 3), OHLC(100, 104, 99, 103), *flat(103, 2)]
    falling = [*flat(100, 3), OHLC(100, 101, 90, 95), *flat(95, 2)]
    limits = {"stop_loss_pct": 3.0, "take_profit_pct": 6.0}
    assert guarded(rising, {0: lambda s: s.sell(size=1)}, **limits).fills()[1:] == [
        (3, "buy", 1, 103, "stop_loss")
    ]
    assert guarded(falling, {0: lambda s: s.sell(size=1)}, **limits).fills()[1:] == [
        (3, "buy", 1, 94, "take_profit")
    ]


def test_a_short_position_cannot_gain_more_than_all():
    ran = guarded(flat(100, 4), {0: lambda s: s.sell(size=1)}, take_profit_pct=150.0)
    assert ran.fills("Accepted") == [(1, "sell", -1, 100, "")]


def test_the_bar_of_the_entry_itself_is_not_protected_as_in_backtrader():
    bars = [*flat(100, 1), OHLC(100, 100, 50, 99), *flat(99, 2)]
    ran = guarded(bars, {0: lambda s: s.buy(size=1)}, stop_loss_pct=3.0)
    assert ran.positions[-1] == (1,)


def test_a_market_exit_of_the_same_bar_fills_first_and_the_stop_never():
    """The open comes before the low: both would sell, and only one position is there."""
    bars = [*flat(100, 4), OHLC(99, 99, 90, 91), *flat(91, 3)]
    script = {0: lambda s: s.buy(size=1), 3: lambda s: s.close(reason="leave")}
    ran = guarded(bars, script, stop_loss_pct=3.0, take_profit_pct=6.0)
    assert ran.fills() == [(1, "buy", 1, 100, ""), (4, "sell", -1, 99, "leave")]
    assert ran.statuses("stop_loss") == [(1, "Accepted"), (4, "Canceled")]
    assert ran.statuses("take_profit") == [(1, "Accepted"), (4, "Canceled")]
    assert ran.positions[-1] == (0,)


def test_a_market_exit_at_an_open_below_the_stop_does_not_sell_twice():
    bars = [*flat(100, 4), OHLC(80, 81, 79, 80), *flat(80, 3)]
    script = {0: lambda s: s.buy(size=1), 3: lambda s: s.close()}
    ran = guarded(bars, script, stop_loss_pct=3.0)
    assert [fill[:4] for fill in ran.fills()] == [(1, "buy", 1, 100), (4, "sell", -1, 80)]
    assert ran.positions[-1] == (0,)


def test_a_stop_that_fills_cancels_the_waiting_exits_of_the_strategy():
    bars = [*flat(100, 4), OHLC(100, 104, 96, 97), OHLC(97, 120, 97, 120), *flat(120, 2)]
    script = {
        0: lambda s: s.buy(size=1),
        2: lambda s: s.sell(size=1, exectype=LIMIT, price=110, reason="mine"),
    }
    ran = guarded(bars, script, stop_loss_pct=3.0)
    assert ran.fills()[1:] == [(4, "sell", -1, 97, "stop_loss")]
    assert ran.statuses("mine") == [(3, "Submitted"), (3, "Accepted"), (4, "Canceled")]
    assert ran.positions[-1] == (0,)


def test_a_stop_of_the_strategy_that_is_nearer_fills_alone():
    bars = [*flat(100, 4), OHLC(100, 100, 90, 91), *flat(91, 3)]
    script = {
        0: lambda s: s.buy(size=1),
        2: lambda s: s.sell(size=1, exectype=STOP, price=98, reason="mine"),
    }
    for order_of_the_queue in ("ours first", "theirs first"):
        if order_of_the_queue == "theirs first":
            # Partly out and in again: the protective orders are replaced and stand behind.
            script[2] = lambda s: (s.sell(size=1, exectype=STOP, price=98, reason="mine"), s.buy(size=1))
        ran = guarded(bars, script, stop_loss_pct=3.0)
        mine = [fill for fill in ran.fills() if fill[4] == "mine"]
        assert all(position[0] >= 0 for position in ran.positions), order_of_the_queue
        assert len(mine) == (order_of_the_queue == "theirs first")


def test_adding_to_a_position_moves_its_protection_to_the_new_average():
    bars = [*flat(100, 2), *flat(110, 3), OHLC(110, 110, 100, 101), *flat(101, 2)]
    script = {0: lambda s: s.buy(size=1), 2: lambda s: s.buy(size=1)}
    ran = guarded(bars, script, stop_loss_pct=2.0)
    assert ran.fills() == [
        (1, "buy", 1, 100, ""),
        (3, "buy", 1, 110, ""),
        (5, "sell", -2, 102.9, "stop_loss"),
    ]
    assert (3, "sell", -1, 98, "stop_loss") in ran.fills("Canceled")


def test_a_partial_exit_leaves_the_rest_protected():
    bars = [*flat(100, 4), OHLC(100, 100, 96, 96), *flat(96, 2)]
    script = {0: lambda s: s.buy(size=3), 2: lambda s: s.sell(size=1)}
    ran = guarded(bars, script, stop_loss_pct=3.0)
    assert ran.fills() == [(1, "buy", 3, 100, ""), (3, "sell", -1, 100, ""), (4, "sell", -2, 97, "stop_loss")]


def test_a_reversal_is_protected_on_its_new_side():
    bars = [*flat(100, 4), OHLC(100, 104, 100, 104), *flat(104, 2)]
    script = {0: lambda s: s.buy(size=1), 2: lambda s: (s.close(), s.sell(size=2))}
    ran = guarded(bars, script, stop_loss_pct=3.0)
    assert [position[0] for position in ran.positions] == [0, 1, 1, -2, 0, 0, 0]
    assert ran.fills()[-1] == (4, "buy", 2, 103, "stop_loss")


def test_a_bracket_of_the_strategy_goes_with_the_position():
    bars = [*flat(100, 4), OHLC(100, 100, 96, 97), OHLC(97, 130, 60, 90), *flat(90, 2)]
    script = {0: lambda s: s.buy_bracket(size=1, exectype=MARKET, stopprice=80, limitprice=120)}
    ran = guarded(bars, script, stop_loss_pct=3.0)
    assert ran.fills()[1:] == [(4, "sell", -1, 97, "stop_loss")]
    assert len(ran.fills("Canceled")) == 2
    assert ran.positions[-1] == (0,)


def test_the_bracket_of_an_entry_that_still_waits_is_kept():
    bars = [*flat(100, 4), OHLC(100, 100, 96, 97), OHLC(97, 97, 89, 90), *flat(90, 3)]
    script = {
        0: lambda s: s.buy(size=1),
        2: lambda s: s.buy_bracket(size=1, exectype=LIMIT, price=90, stopprice=80, limitprice=120),
    }
    ran = guarded(bars, script, stop_loss_pct=3.0)
    assert [position[0] for position in ran.positions] == [0, 1, 1, 1, 0, 1, 1, 1, 1]
    assert len([each for each in ran.fills("Canceled") if each[4] == ""]) == 0


def test_the_strategy_cannot_cancel_its_protection():
    def cancel_everything(strategy):
        for order in strategy.broker.get_orders_open():
            strategy.cancel(order)

    bars = [*flat(100, 4), OHLC(100, 100, 96, 97), *flat(97, 2)]
    ran = guarded(bars, {0: lambda s: s.buy(size=1)}, stop_loss_pct=3.0, every=cancel_everything)
    assert ran.fills()[1:] == [(4, "sell", -1, 97, "stop_loss")]


def test_the_stop_closes_the_trade_that_the_entry_opened():
    bars = [*flat(100, 3), OHLC(100, 100, 96, 97), *flat(97, 2)]
    ran = guarded(bars, {0: lambda s: s.buy(size=1, tradeid=7)}, stop_loss_pct=3.0)
    assert ran.trades == (-3,)
    assert [len(ids) for ids in ran.strategy._trades.values()] == [1]


def test_each_feed_has_its_own_protection():
    first = [*flat(100, 3), OHLC(100, 100, 96, 97), *flat(97, 2)]
    second = [*flat(10, 6)]
    script = {0: lambda s: (s.buy(s.datas[0], size=1), s.buy(s.datas[1], size=5))}
    ran = guarded([first, second], script, stop_loss_pct=3.0)
    assert ran.positions[-1] == (0, 5)


def test_a_bar_that_came_before_the_protection_cannot_fill_it():
    gap = [*flat(100, 1), OHLC(100, 100, 50, 99), None, None, *flat(99, 2)]
    ran = guarded([gap, flat(10, 6)], {0: lambda s: s.buy(size=1)}, stop_loss_pct=3.0)
    assert [position[0] for position in ran.positions] == [0, 1, 1, 1, 1, 1]


# Limits of entries


def refusals(ran: Ran) -> list[tuple[int, str]]:
    return [(each.bar, each.reason) for each in ran.said if each.status == "Rejected"]


def test_an_entry_beyond_the_largest_position_is_refused():
    script = {
        0: lambda s: s.buy(size=4),
        2: lambda s: s.buy(size=2),
        4: lambda s: s.buy(size=1),
        6: lambda s: s.sell(size=5),
        8: lambda s: s.sell(size=5.01),
    }
    ran = guarded(flat(100, 12), script, max_position_size=500.0)
    assert [fill[:3] for fill in ran.fills()] == [(1, "buy", 4), (5, "buy", 1), (7, "sell", -5)]
    assert refusals(ran) == [
        (3, "max_position_size 500: would be 600"),
        (9, "max_position_size 500: would be 501"),
    ]


def test_entries_that_wait_count_towards_the_largest_position():
    script = {
        0: lambda s: (s.buy(size=3), s.buy(size=3)),
        1: lambda s: (
            s.buy(size=2, exectype=LIMIT, price=90),
            s.buy(size=1, exectype=LIMIT, price=90),
        ),
    }
    ran = guarded(flat(100, 5), script, max_position_size=500.0)
    assert [each[1] for each in refusals(ran)] == [
        "max_position_size 500: would be 600",
        "max_position_size 500: would be 540",
    ]


def test_no_more_entries_are_open_than_allowed():
    script = {
        0: lambda s: s.buy(size=1),
        2: lambda s: s.buy(size=1),
        4: lambda s: s.buy(size=1),
        6: lambda s: s.close(),
        8: lambda s: (s.buy(size=1), s.buy(size=1), s.buy(size=1)),
    }
    ran = guarded(flat(100, 12), script, max_positions=2)
    assert [position[0] for position in ran.positions] == [0, 1, 1, 2, 2, 2, 2, 0, 0, 2, 2, 2]
    assert refusals(ran) == [
        (5, "max_positions 2: 2 open, 0 waiting"),
        (9, "max_positions 2: 0 open, 2 waiting"),
    ]


def test_positions_of_all_feeds_count_together():
    script = {0: lambda s: s.buy(s.datas[0], size=1), 2: lambda s: s.buy(s.datas[1], size=1)}
    ran = guarded([flat(100, 5), flat(50, 5)], script, max_positions=1)
    assert ran.positions[-1] == (1, 0)
    assert refusals(ran) == [(3, "max_positions 1: 1 open, 0 waiting")]


def test_a_reversal_needs_no_second_place():
    script = {
        0: lambda s: s.buy(size=1),
        2: lambda s: s.sell(size=2),
        4: lambda s: (s.close(), s.buy(size=1)),
    }
    ran = guarded(flat(100, 7), script, max_positions=1)
    assert [position[0] for position in ran.positions] == [0, 1, 1, -1, -1, 1, 1]
    assert refusals(ran) == []


def test_after_a_reversal_one_entry_is_open():
    script = {
        0: lambda s: s.buy(size=1),
        2: lambda s: s.sell(size=2),
        4: lambda s: s.buy(size=2),
        6: lambda s: s.buy(size=1),
        8: lambda s: s.buy(size=1),
    }
    ran = guarded(flat(100, 11), script, max_positions=2)
    assert [position[0] for position in ran.positions] == [0, 1, 1, -1, -1, 1, 1, 2, 2, 2, 2]
    assert refusals(ran) == [(9, "max_positions 2: 2 open, 0 waiting")]


def test_an_entry_that_fills_in_parts_is_one():
    broker = RiskBroker(max_daily_trades=2, max_positions=2, stop_loss_pct=3.0)
    broker.set_filler(bt.fillers.FixedSize(size=1))
    script = {0: lambda s: s.buy(size=3), 5: lambda s: s.buy(size=1), 7: lambda s: s.buy(size=1)}
    ran = run([each._replace(volume=9.0) for each in flat(100, 10)], script, broker)
    assert [position[0] for position in ran.positions] == [0, 1, 2, 3, 3, 3, 4, 4, 4, 4]
    assert refusals(ran) == [(8, "max_daily_trades 2: 2 today, 0 waiting")]


def test_a_day_has_so_many_entries_and_the_next_one_again():
    script = {
        0: lambda s: s.buy(size=1),
        2: lambda s: s.buy(size=1),
        4: lambda s: s.buy(size=1),
        6: lambda s: s.close(),
        # The bar that opens at 23:00 is the last of its day; the next opens at midnight.
        23: lambda s: s.buy(size=1),
        24: lambda s: s.buy(size=1),
    }
    ran = guarded(flat(100, 30), script, max_daily_trades=2)
    assert [fill[:3] for fill in ran.fills()] == [
        (1, "buy", 1),
        (3, "buy", 1),
        (7, "sell", -2),
        (25, "buy", 1),
    ]
    assert refusals(ran) == [
        (5, "max_daily_trades 2: 2 today, 0 waiting"),
        (24, "max_daily_trades 2: 2 today, 0 waiting"),
    ]


def test_an_entry_counts_on_the_day_of_its_fill_and_while_it_waits():
    script = {
        20: lambda s: s.buy(size=1, exectype=LIMIT, price=95),
        21: lambda s: s.buy(size=1),
        30: lambda s: s.buy(size=1),
    }
    bars = [*flat(100, 26), OHLC(100, 100, 94, 100), *flat(100, 6)]
    ran = guarded(bars, script, max_daily_trades=1)
    assert ran.fills() == [(26, "buy", 1, 95, "")]
    assert refusals(ran) == [
        (22, "max_daily_trades 1: 0 today, 1 waiting"),
        (31, "max_daily_trades 1: 1 today, 0 waiting"),
    ]


def test_an_entry_that_never_fills_is_no_trade_of_the_day():
    script = {
        0: lambda s: s.made.update(order=s.buy(size=1, exectype=LIMIT, price=50)),
        2: lambda s: s.cancel(s.made["order"]),
        3: lambda s: s.buy(size=1),
    }
    ran = guarded(flat(100, 6), script, max_daily_trades=1)
    assert ran.positions[-1] == (1,)


def test_a_day_that_lost_enough_takes_no_entry_until_the_next():
    """Bought at 100, sold at 90, 1 % of each: 10 + 1 + 0.9 lost."""
    bars = [*flat(100, 2), *flat(90, 30)]
    script = {
        0: lambda s: s.buy(size=1),
        2: lambda s: s.close(),
        4: lambda s: s.buy(size=1),
        23: lambda s: s.buy(size=1),
        24: lambda s: s.buy(size=1),
    }
    ran = guarded(bars, script, max_daily_loss=11.9, commission=0.01)
    assert [fill[:2] for fill in ran.fills()] == [(1, "buy"), (3, "sell"), (25, "buy")]
    assert refusals(ran) == [
        (5, "max_daily_loss 11.9: lost 11.9 today"),
        (24, "max_daily_loss 11.9: lost 11.9 today"),
    ]
    enough = guarded(bars, script, max_daily_loss=11.91, commission=0.01)
    assert [each[0] for each in refusals(enough)] == [24], "the second entry paid commission as well"


def test_the_fill_that_loses_too_much_cancels_the_entries_that_wait():
    bars = [*flat(100, 4), *flat(90, 2), OHLC(90, 90, 70, 80), *flat(80, 2)]
    script = {
        0: lambda s: s.buy(size=1),
        1: lambda s: s.buy(size=1, exectype=LIMIT, price=75, reason="later"),
        4: lambda s: s.close(),
    }
    ran = guarded(bars, script, max_daily_loss=5.0)
    assert [fill[:4] for fill in ran.fills()] == [(1, "buy", 1, 100), (5, "sell", -1, 90)]
    assert ran.statuses("max_daily_loss") == [(5, "Canceled")]


def test_the_fill_that_loses_too_much_cuts_the_reversals_that_wait():
    bars = [*flat(100, 4), *flat(90, 2), OHLC(90, 90, 70, 80), *flat(80, 2)]
    script = {
        0: lambda s: s.buy(size=2),
        1: lambda s: s.sell(size=4, exectype=STOP, price=75),
        4: lambda s: s.sell(size=1),
    }
    ran = guarded(bars, script, max_daily_loss=5.0)
    assert [fill[:4] for fill in ran.fills()] == [
        (1, "buy", 2, 100),
        (5, "sell", -1, 90),
        (6, "sell", -1, 75),
    ]


def test_an_exit_is_never_refused():
    bars = [*flat(100, 4), *flat(80, 6)]
    script = {
        0: lambda s: s.buy(size=2),
        4: lambda s: s.sell(size=1),
        6: lambda s: s.sell(size=1, exectype=STOP, price=85),
    }
    limits = {"max_daily_loss": 1.0, "max_daily_trades": 1, "max_positions": 1, "max_position_size": 200.0}
    ran = guarded(bars, script, **limits)
    assert ran.positions[-1] == (0,)
    assert refusals(ran) == []


def test_what_rounding_adds_to_an_exit_is_no_entry():
    script = {0: lambda s: s.buy(size=0.3), 2: lambda s: s.sell(size=0.1 + 0.2)}
    ran = guarded(flat(100, 6), script, max_daily_trades=1, stop_loss_pct=3.0)
    assert ran.positions[-1] == (0,)
    assert refusals(ran) == []


def test_a_refused_reversal_is_cut_to_its_exit():
    script = {0: lambda s: s.buy(size=1), 2: lambda s: s.sell(size=3)}
    ran = guarded(flat(100, 6), script, max_daily_trades=1)
    assert [fill[:3] for fill in ran.fills()] == [(1, "buy", 1), (3, "sell", -1)]
    assert ran.statuses("max_daily_trades")[-1] == (3, "Completed")
    assert ran.positions[-1] == (0,)


def test_a_refused_bracket_is_refused_as_a_whole():
    script = {
        0: lambda s: s.buy(size=1),
        2: lambda s: s.buy_bracket(size=1, exectype=MARKET, stopprice=80, limitprice=120),
        4: lambda s: s.sell_bracket(size=2, exectype=MARKET, stopprice=120, limitprice=80),
    }
    ran = guarded([*flat(100, 8), OHLC(100, 130, 70, 100), *flat(100, 2)], script, max_daily_trades=1)
    assert [each[0] for each in refusals(ran)] == [3, 3, 3, 5, 5]
    assert [position[0] for position in ran.positions] == [0, 1, 1, 1, 1] + [0] * 6


def test_what_it_counts_does_not_grow():
    def churn(strategy):
        if strategy.position:
            strategy.close()
        else:
            strategy.buy(size=1)

    broker = RiskBroker(stop_loss_pct=3.0, take_profit_pct=6.0, max_daily_trades=50, max_position_size=1e6)
    run(flat(100, 500), {}, broker, every=churn)
    assert len(broker.open_entries) + len(broker.keepers) <= 2
    assert len(broker.pending) <= 3
    assert sum(map(len, broker._pchildren.values())) <= 3


# Any strategy


def restless(seed: int):
    """Place and cancel orders of every type at random, from a seed of its own for each bar."""

    def every(strategy):
        rng = random.Random(f"{seed} {len(strategy)}")
        data = rng.choice(strategy.datas)
        close = data.close[0]
        if rng.random() < 0.15:
            for order in strategy.broker.get_orders_open():
                strategy.cancel(order)
        if rng.random() < 0.6:
            return
        side = rng.choice((strategy.buy, strategy.sell))
        size = rng.choice((0.5, 1, 2, 3.7))
        kind = rng.choice(
            (MARKET, MARKET, LIMIT, STOP, bt.Order.StopLimit, bt.Order.StopTrail, "bracket", "close")
        )
        if kind == "close":
            strategy.close(data)
        elif kind == "bracket":
            strategy.buy_bracket(
                data, size=size, exectype=MARKET, stopprice=close * 0.98, limitprice=close * 1.02
            )
        elif kind == bt.Order.StopTrail:
            side(data, size=size, exectype=kind, trailpercent=0.01)
        else:
            price = close * rng.uniform(0.98, 1.02)
            side(data, size=size, exectype=kind, price=price, plimit=price, tradeid=rng.choice((0, 0, 3)))

    return every


def market(seed: int, count: int = 400) -> list[OHLC | None]:
    rng = random.Random(seed)
    price, bars = 100.0, []
    for _ in range(count):
        opens = price * rng.uniform(0.99, 1.01)
        price = opens * rng.uniform(0.97, 1.03)
        high, low = max(opens, price) * rng.uniform(1, 1.02), min(opens, price) * rng.uniform(0.98, 1)
        bars.append(None if bars and rng.random() < 0.02 else OHLC(opens, high, low, price))
    return bars


@pytest.mark.parametrize("seed", range(6))
def test_without_limits_it_is_backtraders_own_broker(seed: int):
    feeds = [market(seed), market(seed + 100)]
    plain = run(feeds, {}, bt.brokers.BackBroker(), commission=0.001, every=restless(seed))
    ours = run(feeds, {}, RiskBroker(), commission=0.001, every=restless(seed))
    assert len(plain.said) > 200
    assert plain.said == ours.said
    assert (plain.positions, plain.trades, plain.value) == (ours.positions, ours.trades, ours.value)


class Watched(RiskBroker):
    """Checks after each bar what must always hold."""

    def init(self):
        super().init()
        self.protective_fills = 0
        self.days_lost = 0
        self.entries = {}

    def _try_exec(self, order):
        before = self.getposition(order.data).size
        self._turn_day(order.data)
        lost = self._lost_too_much()
        super()._try_exec(order)
        after = self.getposition(order.data).size
        grown = after and (abs(after) > abs(before) or after * before < 0)
        assert not (lost and grown)
        if is_protective(order) and after != before:
            self.protective_fills += 1
            assert after == 0
            assert all(
                each.isbuy() != order.isbuy() or (each.parent is not None and each.parent.alive())
                for each in self.pending
                if each is not None and each.data is order.data
            )
        if grown:
            limit, price = self.p.max_position_size, order.executed.price
            # A market order is measured at the close and fills at the next open; a stop may slip a bar.
            assert limit is None or abs(after) * price < limit * 1.1
            day = int(order.data.datetime[0])
            self.entries.setdefault(day, set()).add(order.ref)

    def next(self):
        super().next()
        self.days_lost += self._lost_too_much()
        for data, position in self.positions.items():
            kept = [each for each in self.pending if is_protective(each) and each.data is data]
            assert sorted(each.info["reason"] for each in kept) == (
                ["stop_loss", "take_profit"] if position.size else []
            )
            assert all(each.executed.remsize == -position.size for each in kept)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_strategy_does_the_rules_hold(seed: int):
    broker = Watched(
        stop_loss_pct=2.0, take_profit_pct=3.0, max_daily_trades=6, max_positions=3, max_daily_loss=4.0,
        max_position_size=500.0,
    )  # fmt: skip
    ran = run([market(seed), market(seed + 100)], {}, broker, every=restless(seed), cash=100_000.0)
    assert broker.protective_fills > 5
    assert broker.days_lost
    assert max(len(each) for each in broker.entries.values()) <= 6
    assert ran.trades


def test_the_hours_of_these_bars_are_utc_hours():
    assert ListFeed.params.compression * 60 == HOUR.total_seconds()
    assert issubclass(Scripted, bt.Strategy)
