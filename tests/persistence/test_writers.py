"""Several writers at once, in threads and in processes, alive and killed: each bar once, in order."""

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from stories import MINUTE, add_bots, advance, everything, save, step, version_of

from persistence.bots import set_paused
from persistence.database import Database, open_database
from persistence.database_errors import DatabaseUnavailable
from persistence.ledger.advance import Advance, Loaded
from persistence.ledger.steps import load

HERE = Path(__file__).parent
BARS = 40


def grind(url: str, bots: list[int], bars: int, seed: int) -> int:
    """Step every bot to `bars`, in random batches, against whoever else does it; return steps of ours."""
    chance = random.Random(seed)
    database = open_database(url)
    won = 0
    while not done(database, bots, bars):
        try:
            won += turn(database, chance.sample(bots, chance.randint(1, len(bots))), bars, chance)
        except DatabaseUnavailable as exc:
            print("retry:", exc)
    database.close()
    return won


def done(database: Database, bots: list[int], bars: int) -> bool:
    with database.read() as connection:
        return all(each.version == bars for each in load(connection, bots))


def turn(database: Database, part: list[int], bars: int, chance: random.Random) -> int:
    with database.read() as connection:
        loaded = load(connection, part)
    advances = [ahead(each, min(each.version + 2, bars)) for each in loaded if each.version < bars]
    chance.shuffle(advances)
    return len(save(database, *advances))


def ahead(loaded: Loaded, until: int) -> Advance:
    """Return the steps of the bars up to number `until`."""
    steps = tuple((bar * MINUTE, step(b"%d" % bar)) for bar in range(loaded.version, until))
    return advance(loaded.bot.id, steps, from_version=loaded.version, revision=loaded.bot.revision)


def assert_every_bar_once(database, bots: list[int], bars: int) -> None:
    tables = everything(database)
    for bot in bots:
        steps = [(row[1], row[2]) for row in tables["bot_steps"] if row[0] == bot]
        assert sorted(steps) == [(bar * MINUTE, bar + 1) for bar in range(bars)]
        assert version_of(database, bot) == bars


def test_threads_that_step_the_same_bots(database):
    bots = add_bots(database, 6)
    won: list[int] = []
    threads = [
        threading.Thread(target=lambda seed=seed: won.append(grind(database.url, bots, BARS, seed)))
        for seed in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(won) == 4
    assert_every_bar_once(database, bots, BARS)


PROCESS = """
import sys
sys.path.insert(0, {here!r})
from test_writers import grind
grind({url!r}, {bots!r}, {bars}, {seed})
"""


def start(url: str, bots: list[int], bars: int, seed: int) -> subprocess.Popen:
    code = PROCESS.format(here=str(HERE), url=url, bots=bots, bars=bars, seed=seed)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)


def test_f1_two_processes_are_killed_again_and_again(database):
    """R9.10: kill -9 at random moments, two writers at once; then one finishes what they have left."""
    bots = add_bots(database, 4)
    bars = 300
    chance = random.Random(7)
    kills = 0
    for round_ in range(2):
        processes = [start(database.url, bots, bars, seed=round_ * 10 + number) for number in range(2)]
        before = progress(database, bots)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and progress(database, bots) == before < bars * 4:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.2))
        for process in processes:
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        assert progress(database, bots) > before
    assert kills > 0
    grind(database.url, bots, bars, seed=99)
    assert_every_bar_once(database, bots, bars)


def progress(database: Database, bots: list[int]) -> int:
    return sum(version_of(database, bot) for bot in bots)


def operate(database: Database, bot: int, stop: threading.Event, seen: list[tuple[int, int]]) -> None:
    """Pause and resume; write down the versions at the beginning and the end of each pause."""
    while not stop.is_set():
        with database.write() as connection:
            set_paused(connection, bot, paused=True)
        first = version_of(database, bot)
        time.sleep(0.005)
        seen.append((first, version_of(database, bot)))
        with database.write() as connection:
            set_paused(connection, bot, paused=False)
        time.sleep(0.005)


def test_f23_no_step_commits_after_a_pause_has(database):
    """An operator pauses and resumes all the time while a bot is stepped."""
    (bot,) = add_bots(database)
    seen: list[tuple[int, int]] = []
    stop = threading.Event()
    operator = threading.Thread(target=operate, args=(database, bot, stop, seen))
    operator.start()
    stale = 0
    while (version := version_of(database, bot)) < 150:
        with database.read() as connection:
            (loaded,) = load(connection, (bot,))
        if not loaded.bot.paused:
            time.sleep(0.001)
            stale += not save(database, ahead(loaded, version + 1))
    stop.set()
    operator.join()
    assert stale > 0
    assert seen
    assert all(before == after for before, after in seen)


@pytest.mark.parametrize("rounds", [30])
def test_batches_that_overlap_do_not_deadlock(postgres_url, rounds):
    database = open_database(f"{postgres_url}&options=-c%20deadlock_timeout%3D20ms")
    bots = add_bots(database, 40)
    outcomes: list[str] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(rounds):
            part = chance.sample(bots, 30)
            with database.read() as connection:
                loaded = load(connection, part)
            advances = [ahead(each, each.version + 1) for each in loaded]
            chance.shuffle(advances)
            try:
                save(database, *advances)
            except DatabaseUnavailable as exc:
                outcomes.append(str(exc))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert outcomes == []
    database.close()
