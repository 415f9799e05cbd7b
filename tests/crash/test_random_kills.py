"""R9.10, B4: `scheduler replay` under `kill -9` at random moments, over and over, until it is done.

15 kills per database in the default suite; `make crash SEED= N=` runs until N kills have landed.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from snapshots import differences, snapshot
from worlds import CONFIGS, make_world

KILLS = int(os.environ.get("ONEBAR_N", "15"))
SEED = int(os.environ.get("ONEBAR_SEED", "1"))
BARS = 288


def kill_until_done(world, rng, most):
    """Return how many kills landed before the replay got to its end; after `most` it is left alone."""
    kills = 0
    while True:
        process = subprocess.Popen(
            world.replay,
            env=world.environment,
            cwd=world.settings_file.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if kills >= most:
            _, complaint = process.communicate()
            assert process.returncode == 0, complaint.decode()
            return kills
        try:
            # From before its first statement to the middle of its work; start-up alone takes about a second.
            process.wait(timeout=rng.uniform(0.3, 2.2))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
        else:
            complaint = process.stderr.read().decode()
            process.stderr.close()
            assert process.returncode == 0, complaint
            return kills


@pytest.mark.timeout(0)
def test_the_ledger_after_any_kills_is_the_undisturbed_one(new_database, tmp_path, capsys):
    undisturbed = make_world(new_database(), tmp_path, bars=BARS)
    undisturbed.replay_to_the_end()
    expected = snapshot(undisturbed.url)
    assert len(expected["bot_steps"]) == len(CONFIGS) * BARS
    assert len(expected["trading_trades"]) > 2 * len(CONFIGS)

    rng = random.Random(SEED)
    kills = rounds = 0
    began = time.monotonic()
    while kills < KILLS:
        world = make_world(new_database(), tmp_path, bars=BARS)
        kills += kill_until_done(world, rng, KILLS - kills)
        rounds += 1
        assert differences(expected, snapshot(world.url)) == [], f"seed {SEED}, after {kills} kills"
    seconds = time.monotonic() - began
    with capsys.disabled():  # to stderr, which the workers of a parallel run share with the terminal
        print(
            f"{kills} kills in {rounds} replays of {BARS} bars x {len(CONFIGS)} bots, {seconds:.0f} s",
            file=sys.stderr,
        )
