"""B1: the strategies that Backtrader publishes. ONEBAR_SAMPLES names a checkout of its repository."""

import os
import random
from collections import Counter

import pytest
from exact_record import recording
from exact_run import assert_same, carry, plan, reference
from exact_samples import NotForThis, sample_case, sample_files

from strategies.engine import NotCarriable

FOLDER = os.environ.get("ONEBAR_SAMPLES", "")
COUNT = int(os.environ.get("ONEBAR_SAMPLE_BARS", "300"))


@pytest.mark.skipif(not FOLDER, reason="ONEBAR_SAMPLES names no checkout of Backtrader: 0 samples run")
# Scripts of others leave their files open and warn of what has changed since.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(3600)
def test_published_samples():
    counts, reasons, faults = Counter(), [], []
    for number, file in enumerate(sample_files(FOLDER)):
        try:
            with recording():
                case = sample_case(file, COUNT)
            # Two samples toss the module's own dice, which no state carries: one process, one seed.
            random.seed(7)
            expected = reference(case)
        except Exception as error:  # noqa: BLE001  (scripts of others: whatever they raise is why they are no example)
            counts["not for this" if isinstance(error, NotForThis) else "not for plain Backtrader"] += 1
            reasons.append(f"{file.stem}: {type(error).__name__} {error}")
            continue
        try:
            random.seed(7)
            carried = carry(case, plan(number, fresh=0.05), replays=expected)
            assert_same(case, expected, carried, whole=False)
        except NotCarriable as error:
            counts["refused"] += 1
            reasons.append(f"{case.name}: refused: {error}")
        except Exception as error:  # noqa: BLE001  (all faults at once)
            faults.append(f"{case.name}: {type(error).__name__}: {error}")
        else:
            orders = sum(record[0] == "order" for record in carried.records)
            counts.update(same=1, bars=len(carried.steps), restores=carried.restores, order_events=orders)
    print(dict(counts), "mismatches", len(faults), *reasons, sep="\n")
    assert not faults, "\n".join(faults)
    assert counts["same"] >= 30
