"""A read behind the kept history is right or raises, a replay makes it right, the future is never seen."""

import pytest
from exact_history import FUTURE, RIGHT, history_case
from exact_record import recording
from exact_run import carry, check, plan, reference

from strategies.engine import EngineError, HistoryTooShort, LooksAhead

# What each strategy of FUTURE is told, and as what: the read, and where a person finds it.
REFUSALS = {
    "Ahead": (LooksAhead, r"^data0\.close\[1\] on bar 1 is a read of a bar that has not closed"),
    "Whole": (LooksAhead, r"^data0\.close\.buflen\(\) counts the bars of the future"),
    "BeforeFirst": (LooksAhead, r"^data0\.close\[-3\] on bar 1 is a read before the first bar"),
    "RawArray": (EngineError, r"^data0\.close\.array is the whole history, which a bot does not have"),
}


@pytest.mark.parametrize("name", [strategy.__name__ for strategy in RIGHT])
def test_deep_reads_are_right_after_replays(name):
    count = 330 if name == "Rare" else 130
    case = history_case(name, count)
    carried = check(case, plan(1, fresh=0.2), may_replay=True)
    # Each replay widens the history by more than one bar, or a deep reader would replay for ever.
    assert carried.moves["replay"] <= 12, carried.moves
    assert len(carried.steps) == count


@pytest.mark.parametrize("ago", [1, 2, 5, 12, 40, 77])
@pytest.mark.parametrize("every", [1, 7])
def test_depths_that_are_no_literals(ago, every):
    check(history_case("Deep", 120, options=(("ago", ago), ("every", every))), plan(ago), may_replay=True)


def test_a_read_behind_the_kept_history_raises_and_the_same_step_raises_again():
    case = history_case("Deep", 150, options=(("ago", 100),))
    engine, other = case.engine(), case.engine()
    state, raised = engine.initial(), 0
    with recording() as records:
        for number, row in enumerate(case.rows):
            try:
                state = engine.step(state, row).state
            except HistoryTooShort:
                raised = number
                # Whether the engine is warm, cold or was just disappointed: the same answer.
                for each in (engine, other, case.engine()):
                    with pytest.raises(HistoryTooShort):
                        each.step(state, row)
                break
    assert raised >= 103
    expected = reference(case, raised + 1)
    with recording() as records:
        steps = engine.replay(case.rows[: raised + 1])
    assert len(steps) == raised + 1
    assert records[-len(expected.records) :] == expected.records
    with recording():
        assert engine.step(steps[-1].state, case.rows[raised + 1]).state


def test_replay_gives_every_step_of_a_run_without_replay():
    case = history_case("Rare", 120)
    with recording():
        steps = case.engine().replay(case.rows)
    carried = carry(case, plan(2), replays=reference(case))
    assert [(each.orders, each.trades, each.cash, each.value) for each in steps] == [
        (each.orders, each.trades, each.cash, each.value) for each in carried.steps
    ]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", list(REFUSALS))
def test_the_future_is_never_seen(name):
    """Plain Backtrader answers with a later bar here, because its data is loaded; no bot can know that."""
    case = history_case(name, 60)
    expected = reference(case)
    refusal, words = REFUSALS[name]
    with pytest.raises(refusal, match=words) as refused:
        carry(case, plan(1), replays=expected)
    assert type(refused.value) is refusal


def test_every_strategy_that_looks_ahead_is_tried():
    assert set(REFUSALS) == {strategy.__name__ for strategy in FUTURE}
