"""Changed code, and a history that must become deeper: the account goes on, the bars are read anew."""

import random

import backtrader as bt
import pytest
from exact_bars import random_bars
from exact_history import history_case
from exact_orders import trader_case
from exact_record import exact, note, recording
from exact_run import Case, carry, plan, reference

from strategies.engine import CodeChanged, Feed, HistoryTooShort, StateInvalid

AT = 30  # bars that the old code has seen when it is changed


class Keeper(bt.Strategy):
    """Holds a position with an open order on it when its code is changed."""

    params = (("period", 5),)

    def __init__(self):
        self.average = bt.indicators.EMA(period=self.p.period)
        self.count, self.limit, self.heard = 0, None, []

    def notify_order(self, order):
        self.heard.append((order.ref, order.status))

    def next(self):
        self.count += 1
        if len(self) == 20:
            self.buy(size=3)
        if len(self) == 25:
            self.limit = self.sell(
                size=3, exectype=bt.Order.Limit, price=self.data.close[0] * 1.02, why="target"
            )
        note(self.average[0])


class Changed(Keeper):
    """The next version: another average, and an order of its own long after."""

    params = (("period", 9),)

    def carry_over(self, old):
        self.count = old["count"] * 1000
        self.limit = old.get("limit")

    def next(self):
        super().next()
        if len(self) == 100:
            self.buy(size=1)


class Forgetful(bt.Strategy):
    """A version that carries nothing over and names nothing as before."""

    def next(self):
        note(self.position.size)


def _case(made, count=120):
    def configure(cerebro):
        cerebro.broker.setcash(5_000)
        cerebro.broker.setcommission(commission=0.001)
        cerebro.addstrategy(made)

    return Case(made.__name__, configure, (Feed("A", "1h"),), (random_bars(31, count),))


def _old_state():
    case = _case(Keeper)
    return carry(case, plan(1), rows=case.rows[:AT])


def _account(step):
    positions = [(each.feed, each.size, each.price) for each in step.positions]
    return exact((step.cash, step.value, positions))


def _told(steps):
    return [
        (event.ref, event.status, event.executed_size, event.executed_price, event.commission, event.pnl)
        for step in steps
        for event in step.orders
    ]


@pytest.mark.parametrize("made", [Changed, Forgetful])
def test_account_position_and_open_order_go_on_under_changed_code(made):
    old, new = _case(Keeper), _case(made)
    lived = carry(old, plan(2))
    engine = new.engine()
    with recording(), pytest.raises(CodeChanged):
        engine.step(_old_state().state, new.rows[AT])
    with recording() as records:
        state = engine.rebuild(new.rows[:AT], _old_state().state)
        records.clear()
        steps = []
        for row in new.rows[AT:100]:
            # In an engine that had no part in it.
            steps.append(new.engine().step(state, row))
            state = steps[-1].state
    assert [_account(step) for step in steps] == [_account(step) for step in lived.steps[AT:100]]
    assert _told(steps) == _told(lived.steps[AT:100])
    assert {event[1] for event in _told(steps)} == {"Completed"}
    closed = [event for step in steps for event in step.trades if not event.is_open]
    assert [event.entry_order for event in closed] == [1]
    assert [event.exit_info.get("why") for event in closed] == ["target"]
    assert closed == [event for step in lived.steps[AT:100] for event in step.trades if not event.is_open]


def test_indicators_of_changed_code_are_those_of_a_whole_run_and_attributes_are_asked_for():
    new = _case(Changed)
    expected = [record for record in reference(new).records if record[0] == "note"]
    engine = new.engine()
    with recording() as records:
        state = engine.rebuild(new.rows[:AT], _old_state().state)
        records.clear()
        orders = []
        for row in new.rows[AT:]:
            step = engine.step(state, row)
            state = step.state
            orders += step.orders
    assert [record for record in records if record[0] == "note"] == expected[-len(new.rows[AT:]) :]
    # Its own order goes on with the bot's numbers: 1 and 2 were the old code's.
    assert {event.ref for event in orders if event.status == "Submitted"} == {3}


def test_no_order_of_the_replay_reaches_the_account():
    """R3.7: rebuilding is not trading: the same orders decided again on old bars change nothing."""
    old, new = _case(Keeper), _case(Changed)
    before = _old_state()
    engine = new.engine()
    with recording():
        state = engine.rebuild(new.rows[:AT], before.state)
        after = engine.step(state, new.rows[AT])
        once_more = engine.rebuild(new.rows[:AT], before.state)
    assert state == once_more
    assert _account(after) == _account(carry(old, plan(3), rows=old.rows[: AT + 1]).steps[-1])
    assert not [event for event in after.orders if event.status in {"Submitted", "Accepted"}]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rebuilding_under_the_same_code_changes_nothing_that_is_decided(seed):
    case = trader_case(seed=seed, count=120, feeds=2)
    expected = reference(case)
    at = random.Random(seed).randint(40, 90)
    before = carry(case, plan(seed), rows=case.rows[:at])
    engine = case.engine()
    with recording() as records:
        state = engine.rebuild(case.rows[:at], before.state)
        records.clear()
        for row in case.rows[at:]:
            state = engine.step(state, row).state
    assert records == expected.records[before.ends[-1] :]
    assert len(records) > 100


def test_rebuilding_under_the_same_code_keeps_more_history():
    """A bot that began elsewhere gets what is behind its kept history from the stored bars."""
    case = history_case("Deep", 120, options=(("ago", 60),))
    engine = case.engine()
    state, too_short = engine.initial(), 0
    with recording():
        for number, row in enumerate(case.rows):
            try:
                state = engine.step(state, row).state
            except HistoryTooShort:
                too_short = number
                break
    assert too_short > 60
    before = carry(case, plan(1), replays=reference(case), rows=case.rows[: too_short + 5])
    rebuilt = case.engine()
    with recording() as records:
        state = rebuilt.rebuild(case.rows[: too_short + 5], before.state)
        records.clear()
        for row in case.rows[too_short + 5 :]:
            state = rebuilt.step(state, row).state
    assert records == reference(case).records[before.ends[-1] :]


def test_a_damaged_former_state_is_told():
    engine, old = _case(Changed).engine(), _old_state().state
    rows, rng, refused = _case(Changed).rows[:AT], random.Random(4), 0
    with recording():
        for _ in range(150):
            place = rng.randrange(len(old))
            damaged = old[:place] + bytes([old[place] ^ (1 << rng.randrange(8))]) + old[place + 1 :]
            with pytest.raises(StateInvalid):
                engine.rebuild(rows[:3], damaged)
            refused += 1
    assert refused == 150
