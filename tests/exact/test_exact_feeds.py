"""B1: several symbols and intervals, gaps, resampling, replay and filters, with the state moved."""

import pytest
from exact_feeds import LAYOUTS, feeds_case
from exact_process import OtherProcess
from exact_run import assert_same, carry, check, plan, reference


@pytest.mark.parametrize("name", LAYOUTS)
def test_feeds(name):
    case, whole = feeds_case(name)
    carried = check(case, plan(1, fresh=0.2), whole=whole)
    assert carried.restores > len(case.rows) * 0.7


@pytest.mark.parametrize(
    "name", ["resampled with gaps", "replayed", "two filters", "three symbols with gaps"]
)
def test_feeds_in_another_process(name):
    case, whole = feeds_case(name, 90)
    with OtherProcess(case) as process:
        check(case, plan(2, process=0.5), process=process, whole=whole)


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if not layout[3]])
def test_a_row_says_all_that_is_known_by_then(name):
    """A bar of a larger interval is seen with the row that closes it, not one later."""
    case, _ = feeds_case(name)
    expected = reference(case)
    carried = carry(case, plan(3))
    assert_same(case, expected, carried, whole=False)
    # Plain Backtrader adds the unfinished bars at the end of its data: at most one round more than the rows.
    left = [record for record in expected.records[len(carried.records) :] if record[0] == "bar"]
    assert len(left) <= 2
