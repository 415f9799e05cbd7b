"""B1, B4: strategies that a grammar wrote, killed after random bars, in the same process and in others."""

import os
from collections import Counter

import pytest
from exact_grammar import written, written_case
from exact_process import OtherProcess
from exact_run import assert_same, carry, plan, reference

SLOW = pytest.mark.skipif(os.environ.get("ONEBAR_EXACT") != "1", reason="behind make exact")
SEED, COUNT = int(os.environ.get("ONEBAR_SEED", "1")), int(os.environ.get("ONEBAR_N", "500"))
PARTS = 10


def _all_same(seeds, count, where):
    total, faults = Counter(), []
    for seed in seeds:
        case = written_case(seed, count)
        try:
            expected = reference(case)
        except Exception:  # noqa: BLE001  (a strategy that plain Backtrader cannot run is no example)
            total["not for plain Backtrader"] += 1
            continue
        try:
            carried = carry(case, where(seed), replays=expected)
            assert_same(case, expected, carried)
        except Exception as error:  # noqa: BLE001  (all faults at once)
            faults.append(f"{case.name}: {type(error).__name__}: {error}")
            continue
        orders = sum(record[0] == "order" for record in carried.records)
        total.update(strategies=1, bars=len(carried.steps), restores=carried.restores, order_events=orders)
        total["replays"] += carried.moves["replay"]
    print(dict(total), "mismatches", len(faults))
    assert not faults, "\n".join(faults)
    return total


def test_written_strategies_with_random_kills():
    total = _all_same(range(SEED, SEED + 22), 200, lambda seed: plan(seed, fresh=0.05, swap=0.4, stay=0.55))
    assert total["strategies"] >= 20
    assert total["order_events"] > 2000


def test_written_strategies_in_another_process():
    seeds = (SEED + 1, SEED + 2, SEED + 3)
    restores = 0
    for seed in seeds:
        case = written_case(seed, 90)
        with OtherProcess(case) as process:
            expected = reference(case)
            carried = carry(case, plan(seed, process=0.5), process=process)
        assert_same(case, expected, carried)
        restores += carried.moves["process"]
    assert restores > 60


def test_a_seed_always_writes_the_same():
    assert written(7) == written(7) != written(8)


@SLOW
@pytest.mark.timeout(14400)
@pytest.mark.parametrize("part", range(PARTS))
def test_many_written_strategies(part):
    total = _all_same(range(SEED + part, SEED + COUNT, PARTS), 300, lambda seed: plan(seed, fresh=0.2))
    assert total["strategies"] >= COUNT // PARTS * 0.8
