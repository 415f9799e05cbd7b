"""B1: every kind of order at every kind of broker, with the state moved after (nearly) every bar."""

import os
from collections import Counter

import pytest
from exact_orders import ACTIONS, BROKERS, trader_case
from exact_process import OtherProcess
from exact_run import check, plan

SLOW = pytest.mark.skipif(os.environ.get("ONEBAR_EXACT") != "1", reason="behind make exact")
SEED = int(os.environ.get("ONEBAR_SEED", "1"))
COUNT = max(3, int(os.environ.get("ONEBAR_N", "500")) // 50)  # seeds per broker


def _statuses(carried):
    return Counter(record[1][2] for record in carried.records if record[0] == "order")


@pytest.mark.parametrize("action", ACTIONS)
def test_each_kind_of_order(action):
    carried = check(trader_case((action, "market"), seed=SEED, count=150, feeds=2), plan(SEED, fresh=0.2))
    assert _statuses(carried)["Completed"] > 10
    assert carried.restores > 120


@pytest.mark.parametrize("broker", BROKERS)
def test_all_orders_at_each_broker(broker):
    carried = check(trader_case((), broker, SEED, 180, feeds=2), plan(SEED, reimport=0.02))
    assert len(_statuses(carried)) >= 5
    assert sum(_statuses(carried).values()) > 100


def test_fresh_engine_at_every_bar():
    carried = check(trader_case(seed=SEED + 1, count=120), plan(0, fresh=1, swap=0, stay=0))
    assert carried.moves["fresh"] == len(carried.steps)


def test_orders_in_another_process_with_another_hash_seed():
    case = trader_case(seed=SEED + 2, count=200, feeds=2)
    with OtherProcess(case) as process:
        carried = check(case, plan(9, process=0.6), process=process)
    assert carried.moves["process"] > 60


def test_numbers_of_orders_and_trades_are_the_bots_own():
    """Two bots stepped in turn in one process number their orders as if each were alone."""
    first = check(trader_case(seed=5, count=80), plan(1))
    second = check(trader_case(seed=5, count=80), plan(2))
    assert [step.orders for step in first.steps] == [step.orders for step in second.steps]
    refs = [event.ref for step in first.steps for event in step.orders]
    assert min(refs) == 1


@SLOW
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("broker", BROKERS)
def test_all_orders_at_each_broker_for_many_seeds(broker):
    total = Counter()
    for seed in range(SEED, SEED + COUNT):
        carried = check(
            trader_case((), broker, seed, 250, feeds=1 + seed % 3, often=0.6), plan(seed, fresh=0.2)
        )
        total += _statuses(carried)
        total.update(bars=len(carried.steps), restores=carried.restores)
    print(broker, dict(total))
    assert total["Completed"] > 20 * COUNT
