"""R9.4, B5: a bot's life with pauses, faults and replays is one life, whichever engine lives it."""

import backtrader as bt
import pytest
from exact_bars import random_bars
from exact_orders import trader_case
from exact_process import step_text
from exact_record import note, recording
from exact_run import Case, carry, plan, reference
from exact_strategies import strategy_case

from strategies.engine import CodeChanged, EngineError, Feed, StateInvalid


class Failing(bt.Strategy):
    """Changes much of itself on a bar and then raises, as a bot with a fault does."""

    params = (("at", 30),)

    def __init__(self):
        self.sma = bt.indicators.SMA(period=4)
        self.seen, self.table = [], {"n": 0}

    def next(self):
        self.seen.append(len(self))
        self.table["n"] += 1
        if len(self) % 3 == 0:
            self.buy(exectype=bt.Order.Limit, price=self.data.close[0])
        note(len(self.seen), self.table["n"], self.sma[0])
        if self.data.volume[0] == -1.0:
            raise ZeroDivisionError("as told")


def _failing_case(count=60):
    configure = lambda cerebro: cerebro.addstrategy(Failing)  # noqa: E731  (a case takes a function)
    return Case("failing", configure, (Feed("A", "1h"),), (random_bars(2, count),))


def _poisoned(row):
    from dataclasses import replace

    return (replace(row[0], volume=-1.0),)


@pytest.mark.parametrize("way", ["step", "catch_up"])
def test_after_a_fault_in_the_strategy_the_engine_is_as_if_new(way):
    """R2.4: an exception out of a strategy leaves nothing of the half-made bar behind."""
    case = _failing_case()
    engine, untouched = case.engine(), case.engine()
    state = other = engine.initial()
    faults = 0
    with recording():
        for number, row in enumerate(case.rows):
            if number % 7 == 3:
                rows = _poisoned(row) if way == "step" else [_poisoned(row)]
                with pytest.raises(ZeroDivisionError, match="as told"):
                    getattr(engine, way)(state, rows)
                faults += 1
            state, other = engine.step(state, row).state, untouched.step(other, row).state
            assert state == other
    assert faults > 7


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ((), "^0 bars for 1 feeds$"),
        ((None,), "^a step needs at least one bar$"),
        ("two", "^2 bars for 1 feeds$"),
    ],
)
def test_rows_that_fit_no_feeds_are_refused_and_change_nothing(row, why):
    case = _failing_case(20)
    engine = case.engine()
    with recording():
        step = engine.step(engine.initial(), case.rows[0])
        with pytest.raises(EngineError, match=why):
            engine.step(step.state, case.rows[1] * 2 if row == "two" else row)
        assert engine.step(step.state, case.rows[1]) == case.engine().step(step.state, case.rows[1])


def test_a_bar_again_or_of_the_past_is_refused():
    """A bar applied twice would be a wrong ledger: the state knows its last bar."""
    case = _failing_case(20)
    engine = case.engine()
    with recording():
        first = engine.step(engine.initial(), case.rows[5])
        for row in (case.rows[5], case.rows[4]):
            with pytest.raises(EngineError, match="is not after the last one"):
                engine.step(first.state, row)
        assert engine.step(first.state, case.rows[6]).state


def _life(case, changes):
    """Step bar by bar, told when to trade as a caller is."""
    engine = case.engine()
    state, steps = engine.initial(), []
    for row in case.rows:
        if row[0] is not None and row[0].open_time in changes:
            state = engine.trading_from(state, changes[row[0].open_time])
        steps.append(engine.step(state, row))
        state = steps[-1].state
    return steps


def test_a_replay_of_a_life_with_pauses_is_that_life():
    case = trader_case(seed=3, count=150)
    times = [row[0].open_time for row in case.rows]
    changes = {times[20]: times[35], times[60]: times[90], times[75]: None, times[120]: times[130]}
    with recording():
        lived = _life(case, changes)
        replayed = case.engine().replay(case.rows, changes=changes)
        last = case.engine().replay(case.rows, changes=changes, keep_last=5)
    assert [step_text(step) for step in replayed] == [step_text(step) for step in lived]
    assert replayed[-1].state == lived[-1].state == last[-1].state
    assert list(last) == list(replayed[-5:])
    rejected = sum(event.status == "Rejected" for step in lived for event in step.orders)
    assert rejected > 5


def test_the_header_tells_whose_state_it_is():
    case, other = trader_case(seed=3, count=60), strategy_case("NoIndicators", 60)
    carried = carry(case, plan(1))
    case.engine().check_state(carried.state)
    with pytest.raises(CodeChanged):
        other.engine().check_state(carried.state)
    for wrong in (b"", carried.state[:-1], carried.state[:20], b"x" * 100):
        with pytest.raises(StateInvalid):
            case.engine().check_state(wrong)


def test_two_bots_share_an_engine_by_turns():
    """Swapping resets all that the other bot left: brackets, sets of open orders, counters."""
    cases = [trader_case(("bracket", "oco", "market", "cancel"), seed=seed, count=120) for seed in (3, 3)]
    other = Case("other bars", cases[1].configure, cases[1].feeds, (random_bars(77, 120),))
    engine = cases[0].engine()
    states = {number: engine.initial() for number in range(2)}
    seen: dict[int, list] = {0: [], 1: []}
    for rows in zip(cases[0].rows, other.rows, strict=False):
        for number, row in enumerate(rows):
            with recording() as records:
                states[number] = engine.step(states[number], row).state
            seen[number] += records
    assert seen[0] == reference(cases[0], len(other.rows)).records[: len(seen[0])]
    assert seen[1] == reference(other, len(cases[0].rows)).records[: len(seen[1])]
    assert len(seen[0]) > 300
