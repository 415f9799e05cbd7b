"""B5: analyzers, observers and writers keep working, and an analyzer's result can be read from any state."""

import pytest
from exact_analyzers import ANALYZERS, OBSERVERS, observed_case
from exact_record import exact, recording
from exact_run import Carried, assert_same, carry, check, plan, reference


def _plainly(analysis):
    """Return nested mappings and lists of an analysis as values that compare by bits."""
    if hasattr(analysis, "items"):
        return tuple((repr(key), _plainly(value)) for key, value in analysis.items())
    if isinstance(analysis, list | tuple):
        return tuple(map(_plainly, analysis))
    return exact(analysis)


@pytest.mark.parametrize("name", ANALYZERS)
def test_analysis_at_any_bar_equals_that_of_a_run_that_ends_there(name):
    # AnnualReturn walks the feed's whole history at the end, which is only kept for one feed.
    case = observed_case((name,), count=160, feeds=1 if name == "annual" else 2)
    engine, where = case.engine(), plan(1, fresh=0.15)
    carried = carry(case, where, rows=case.rows[:70])
    states = {70: carried.state}
    with recording():
        for number, row in enumerate(case.rows[70:], 71):
            carried.state = engine.step(carried.state, row).state
            states[number] = carried.state
    assert len(states) > 80
    for count in (70, 101, len(case.rows)):
        plain = reference(case, count).strategies[0].analyzers.getbyname(name).get_analysis()
        found = case.engine().analysis(states[count])[name]
        assert _plainly(found) == _plainly(plain), f"{name} after {count} bars"


def test_reading_an_analysis_leaves_the_state_alone():
    case = observed_case(tuple(ANALYZERS), count=90)
    engine = case.engine()
    carried = carry(case, plan(1))
    again = Carried()
    with recording() as records:
        again.records = records
        again.state = engine.initial()
        for number, row in enumerate(case.rows):
            step = engine.step(again.state, row)
            # Some of Backtrader's analyzers divide by what there is none of in the first bars.
            if number >= 40:
                engine.analysis(step.state)
            again.state = step.state
    assert again.state == carried.state
    assert again.records == carried.records


@pytest.mark.parametrize("name", OBSERVERS)
def test_observers(name):
    assert check(observed_case((), (name,), count=120), plan(2)).restores > 80


def test_all_of_them_together():
    case = observed_case(tuple(ANALYZERS), tuple(OBSERVERS), count=120)
    expected = reference(case)
    carried = carry(case, plan(3, fresh=0.1))
    assert_same(case, expected, carried)


def test_writers_do_not_disturb():
    assert check(observed_case(("trades",), writer=True, count=80), plan(4)).restores > 50
