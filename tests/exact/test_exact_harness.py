"""The comparison itself: it sees the last bit of one double, a lost attribute and a missing bar."""

import dataclasses
import math

import pytest
from exact_orders import trader_case
from exact_record import exact, recording
from exact_run import Carried, Reference, assert_same, carry, check, difference, plan, reference


def _turned(case, number):
    """Return the case with one close changed in its last bit."""
    bars = list(case.bars[0])
    bars[number] = dataclasses.replace(bars[number], close=math.nextafter(bars[number].close, math.inf))
    return dataclasses.replace(case, bars=(tuple(bars), *case.bars[1:]))


def test_a_reference_repeats_itself():
    case = trader_case(count=60)
    assert reference(case).records == reference(case).records


def test_bits_are_compared_not_values():
    assert exact(0.0) != exact(-0.0)
    assert exact(math.nan) == exact(math.nan)
    assert exact((1, True)) == exact((1, True))
    assert exact([1.5]) != exact((1.5,))


def test_one_bit_of_one_bar_is_found():
    case = trader_case(count=80)
    carried = carry(_turned(case, 50), plan(1))
    found = difference(reference(case), carried)
    assert found is not None
    assert "bar 51" in found
    with pytest.raises(AssertionError, match="bar 51"):
        assert_same(case, reference(case), carried)


def test_a_state_that_is_one_bar_old_is_found():
    case = trader_case(count=60)
    engine, states = case.engine(), []
    state = engine.initial()
    with recording() as records:
        for number, row in enumerate(case.rows):
            states.append(state)
            state = engine.step(states[-2] if number == 40 else state, row).state
    assert difference(reference(case), Carried(records)) is not None


def test_missing_and_additional_records_are_found():
    case = trader_case(count=40)
    carried = check(case, plan(1))
    expected = reference(case)
    with pytest.raises(AssertionError):
        assert_same(case, expected, dataclasses.replace(carried, records=carried.records[:-1]))
    with pytest.raises(AssertionError):
        assert_same(case, Reference(expected.records[:-3], []), carried)
    with pytest.raises(AssertionError, match="nothing"):
        assert_same(case, Reference([], []), Carried())


def test_recording_leaves_no_trace_in_what_is_recorded():
    """Cash and orders of a plain run are the same with and without the recorders."""
    from exact_run import plain_cerebro

    case = trader_case(count=120, feeds=2)
    bare = plain_cerebro(case)
    case.configure(bare)
    with recording():
        strategy = bare.run(runonce=False, preload=True, exactbars=0)[0]
    seen = reference(case).strategies[0]
    assert exact(strategy.broker.getvalue()) == exact(seen.broker.getvalue())
    assert len(strategy.broker.orders) == len(seen.broker.orders) > 20
    assert strategy.rng.getstate() == seen.rng.getstate()
