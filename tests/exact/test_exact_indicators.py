"""B1: every indicator class of Backtrader is bit-exact when its state moves between engines."""

import os
from collections import Counter

import pytest
from exact_expressions import EXPRESSIONS, expression_case
from exact_indicators import WAYS, indicator_case, names, random_settings
from exact_process import OtherProcess
from exact_run import assert_same, carry, check, plan, reference

SLOW = pytest.mark.skipif(os.environ.get("ONEBAR_EXACT") != "1", reason="behind make exact")
SEED, COUNT = int(os.environ.get("ONEBAR_SEED", "1")), int(os.environ.get("ONEBAR_N", "3"))


def _buildable(case):
    """Return the reference, or None if plain Backtrader cannot run it: what raises there may raise here."""
    try:
        expected = reference(case)
    except Exception:  # noqa: BLE001  (whatever plain Backtrader raises: the class is not for this data)
        return None
    return expected if any(record[0] == "bar" for record in expected.records) else None


def _moved(cases, **weights):
    counts = Counter()
    faults = []
    for number, case in enumerate(cases):
        expected = _buildable(case)
        if expected is None:
            counts["not for plain Backtrader"] += 1
            continue
        try:
            carried = carry(case, plan(number + SEED, **weights))
            assert_same(case, expected, carried)
        except Exception as error:  # noqa: BLE001  (all faults at once, each with its class)
            faults.append(f"{case.name}: {type(error).__name__}: {error}")
            continue
        counts.update(classes=1, bars=len(case.rows), restores=carried.restores)
    print(dict(counts), "mismatches", len(faults))
    assert not faults, f"{len(faults)} of {counts['classes'] + len(faults)}:\n" + "\n".join(faults)
    return counts


def test_every_class_on_one_feed_with_defaults():
    counts = _moved((indicator_case(name, "one feed") for name in names()), fresh=0.04, swap=0.86)
    assert counts["classes"] >= 290
    assert counts["restores"] >= counts["bars"] * 0.8


def test_classes_that_need_two_feeds_or_two_lines():
    alone = {name for name in names() if _buildable(indicator_case(name, "one feed", count=60)) is None}
    counts = _moved((indicator_case(name, way) for name in sorted(alone) for way in WAYS[1:]), fresh=0.04)
    assert counts["classes"] >= 6
    sample = [name for number, name in enumerate(names()) if number % 12 == SEED % 12]
    assert _moved(indicator_case(name, way) for name in sample for way in WAYS[1:])["classes"] >= 40


def test_random_legal_parameters():
    chosen = [name for number, name in enumerate(names()) if number % 6 == SEED % 6]
    cases = (indicator_case(name, "one feed", random_settings(name, SEED)) for name in chosen)
    assert _moved(cases, fresh=0.04)["classes"] >= 35


@SLOW
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("way", WAYS)
def test_every_class_with_random_parameters_in_every_way(way):
    cases = (
        indicator_case(name, way, random_settings(name, f"{SEED} {number}"), seed=SEED + number)
        for name in names()
        for number in range(COUNT)
    )
    assert _moved(cases)["classes"] >= 200 * COUNT


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_and_indicators_on_indicators(name):
    carried = check(expression_case(name), plan(SEED, fresh=0.15, reimport=0.03))
    assert carried.restores > 80
    assert len(carried.records) > 300


@pytest.mark.parametrize(
    "name", ["Ichimoku", "ZeroLagIndicator", "Accum", "ExponentialSmoothing", "KST", "PSAR"]
)
def test_indicators_in_another_process_with_another_hash_seed(name):
    case = indicator_case(name, "one feed", count=120)
    with OtherProcess(case) as process:
        carried = check(case, plan(3, process=0.5), process=process)
    assert carried.moves["process"] > 20
