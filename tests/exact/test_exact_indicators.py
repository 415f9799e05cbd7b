"""B1: every indicator class of Backtrader is bit-exact when its state moves between engines."""

import os
from collections import Counter

import pytest
from exact_expressions import EXPRESSIONS, expression_case
from exact_indicators import WAYS, indicator_case, names, random_settings
from exact_process import OtherProcess
from exact_run import assert_same, carry, check, plan, reference

SLOW = pytest.mark.skipif(os.environ.get("ONEBAR_EXACT") != "1", reason="behind make exact")
SEED = int(os.environ.get("ONEBAR_SEED", "1"))
# N is the number of written strategies of `make exact`; every class gets one set of parameters per 500.
COUNT = max(1, int(os.environ.get("ONEBAR_N", "500")) // 500)
PARTS = 8

# Bases without a computation of their own, those that want two lines or a function, those that want
# statsmodels or a pandas of long ago, and the dynamic smoothing that wants a line as its factor.
NOT_ON_ONE_FEED = {
    *("ApplyN", "BaseApplyN", "CointN", "CrossDown", "CrossOver", "CrossUp", "ExpSmoothingDynamic"),
    *("ExponentialSmoothingDynamic", "FindFirstIndex", "FindLastIndex", "Indicator", "MovingAverageBase"),
    *("NZD", "NonZeroDifference", "OLS_BetaN", "OLS_Slope_InterceptN", "OLS_TransformationN", "OperationN"),
    *("Oscillator", "OscillatorMixIn", "PeriodN", "ReduceN"),
}


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


@pytest.mark.parametrize("part", range(PARTS))
def test_every_class_on_one_feed_with_defaults(part):
    """Every name of bt.indicators but those that plain Backtrader cannot build like this: 295 of 317."""
    chosen = [name for name in names() if name not in NOT_ON_ONE_FEED][part::PARTS]
    counts = _moved((indicator_case(name, "one feed", count=130) for name in chosen), fresh=0.04, swap=0.86)
    assert counts["classes"] == len(chosen)
    assert counts["restores"] >= counts["bars"] * 0.8


def test_no_class_is_left_out():
    assert len(set(names()) - NOT_ON_ONE_FEED) == 295
    assert set(names()) > NOT_ON_ONE_FEED


def test_classes_that_need_two_feeds_or_two_lines():
    ways = WAYS[1:]
    counts = _moved(
        (indicator_case(name, way) for name in sorted(NOT_ON_ONE_FEED) for way in ways), fresh=0.04
    )
    assert counts["classes"] >= 13
    sample = names()[SEED % 24 :: 24]
    assert _moved(indicator_case(name, way) for name in sample for way in ways)["classes"] >= 20


def test_random_legal_parameters():
    chosen = names()[SEED % 10 :: 10]
    cases = (indicator_case(name, "one feed", random_settings(name, SEED)) for name in chosen)
    assert _moved(cases, fresh=0.04)["classes"] >= 20


@SLOW
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("way", WAYS)
def test_every_class_with_random_parameters_in_every_way(way, part):
    chosen = names()[part::PARTS]
    cases = (
        indicator_case(name, way, random_settings(name, f"{SEED} {number}"), seed=SEED + number)
        for name in chosen
        for number in range(COUNT)
    )
    assert _moved(cases)["classes"] >= len(chosen) * COUNT // 2


@SLOW
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("way", WAYS[1:])
def test_every_class_with_defaults_in_every_way(way, part):
    chosen = names()[part::PARTS]
    assert _moved(indicator_case(name, way) for name in chosen)["classes"] >= len(chosen) // 2


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
