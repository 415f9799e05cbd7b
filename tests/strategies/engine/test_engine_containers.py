"""B1: what a container holds is carried, whatever its own methods say of it, and none of them is called."""

from hostile_containers import Keeper
from runs import X, bars, seen_by

from strategies.engine import Engine

BARS = bars(12)


def _configure(cerebro):
    cerebro.addstrategy(Keeper)


def _stepped(engines):
    """Step all bars, the next engine of `engines` at each; return what the strategy saw and the states."""
    state, states = engines[0].initial(), []
    for number, bar in enumerate(BARS):
        state = engines[number % len(engines)].step(state, [bar]).state
        states.append(state)
    return states


def test_a_step_is_pure_also_where_a_container_hides_its_content():
    engine = Engine(_configure, X)
    start = engine.initial()
    first = engine.step(start, [BARS[0]]).state
    assert engine.step(start, [BARS[0]]).state == first
    assert Engine(_configure, X).step(start, [BARS[0]]).state == first


def test_such_containers_go_on_in_any_engine():
    alone, one = seen_by(lambda: _stepped([Engine(_configure, X)]))
    moved, three = seen_by(lambda: _stepped([Engine(_configure, X) for _ in range(3)]))
    assert moved == alone
    assert three == one
    assert alone[-1][0] == len(BARS)
