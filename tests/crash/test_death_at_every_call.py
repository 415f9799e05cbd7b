"""R9.10, B4: killed before and after every call that leaves the process, the ledger is the undisturbed one.

The world is small, so that every n can be tried: two busy bots on real candles.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from worlds import BUSY_CONFIGS, make_world

DYING = Path(__file__).with_name("dying.py")
BARS = 16 if "ONEBAR_N" in os.environ else 4  # more behind `make crash`

# do_executemany is left out: whether a statement with many rows is one call is the driver's affair.
CALLS = ("do_begin", "do_execute", "do_commit", "closed_bars")


def run_faults(fault, world, *, mutant="", first=1, stride=1):
    command = [sys.executable, str(DYING), fault, world.url, str(world.settings_file), world.end]
    options = [f"--mutant={mutant}", f"--first={first}", f"--stride={stride}"]
    done = subprocess.run(
        [*command, *options], env=world.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", [1, 2])
def test_no_single_death_leaves_a_trace(database_url, tmp_path, first):
    world = make_world(database_url, tmp_path, bars=BARS, configs=BUSY_CONFIGS)
    report = run_faults("deaths", world, first=first, stride=2)
    assert report["differences"] == {}
    assert report["lives"] > 5 * BARS
    # Odd deaths are before a call, even ones after it; every kind of call was one of them.
    moment = "before" if first % 2 else "after"
    assert {f"{moment} {call}" for call in CALLS} <= set(report["calls"])


@pytest.mark.timeout(600)
def test_a_process_that_slept_through_the_work_of_another_writes_nothing(database_url, tmp_path):
    """I6: read and decided before, woken after another had committed the same bars."""
    world = make_world(database_url, tmp_path, bars=BARS, configs=BUSY_CONFIGS)
    report = run_faults("freezes", world)
    assert report["differences"] == {}
    assert report["lives"] >= BARS


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mutant", "fault"),
    [("cursor_first", "deaths"), ("trades_outside", "deaths"), ("no_version_check", "freezes")],
)
def test_the_harness_catches_a_planted_wrong_order(database_url, tmp_path, mutant, fault):
    """A test of the tests: with these three planted, deaths and freezes must leave traces."""
    world = make_world(database_url, tmp_path, bars=BARS, configs=BUSY_CONFIGS)
    # The gap between two transactions is some calls wide: a stride of five cannot step over it.
    report = run_faults(fault, world, mutant=mutant, stride=5 if fault == "deaths" else 1)
    assert report["differences"], f"{report['lives']} faults and {mutant} was not caught"
