"""Neighbours of slow and hanging bots (R2.2, R2.3, R10.2): whatever a bot does, they are in time."""

import statistics
from pathlib import Path

import pytest
from neighbours import add, crew_of, cursors, settle_times, write_plugins
from scheduler_stage import wait_for

from jobs.bar.firing import Outcome
from persistence.database import open_database
from scheduler.crew.lanes import Lanes

IN_TIME_S = 1.0  # a neighbour of old waited for seconds; a shared machine may cost a few hundred ms


@pytest.fixture
def database(sqlite_url):
    opened = open_database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    made = tmp_path / "plugins"
    made.mkdir()
    write_plugins(made)
    return made


def test_a_slow_bot_delays_nobody_and_is_named(database, folder):
    slow = add(database, "sleeper", s=3.0)
    good = [add(database, "quick") for _ in range(6)]
    with crew_of(database, folder) as crew:
        assert wait_for(lambda: crew.state().ready == 2, 30)
        times = settle_times(database, crew, [slow, *good], set(good), 9.0)
        assert [bot_id for bot_id, _ in crew.state().slow] == [slow]
    assert len(times) >= 6 * 3
    assert statistics.median(times) < IN_TIME_S / 2
    assert max(times) < IN_TIME_S
    assert cursors(database)[slow] is not None, "it goes on as well"


def test_a_bot_that_hangs_while_it_is_built_is_charged_and_delays_nobody(database, folder):
    good = [add(database, "quick") for _ in range(6)]
    with crew_of(database, folder, step_deadline_s=2.0) as crew:
        assert wait_for(lambda: crew.state().ready == 2, 30)
        settle_times(database, crew, good, set(good), 2.0)
        bad = [add(database, kind) for kind in ("holder", "builder", "importer")]
        times = settle_times(database, crew, [*bad, *good], set(good), 8.0)
        charged = {crew.charges.get(timeout=10).bot_id for _ in bad}
    assert charged == set(bad)
    assert len(times) >= 6 * 4
    assert max(times) < IN_TIME_S


def test_a_slow_bot_far_behind_is_not_killed_for_the_number_of_its_bars(database, folder):
    slow = add(database, "sleeper", s=0.7)
    with crew_of(database, folder, step_deadline_s=2.5) as crew:
        assert wait_for(lambda: crew.state().ready == 2, 30)
        # Five lookback bars at 0.7 s are more than the deadline together.
        settle_times(database, crew, [slow], {slow}, 6.0)
        assert crew.charges.empty()
        assert crew.state().bars >= 5
        assert crew.state().replaced == 0


def test_bots_that_are_all_slow_share_their_workers():
    lanes = Lanes()
    parting = lanes.learn(Outcome(bot_id, 1, took_ms=2_000.0 + bot_id) for bot_id in range(1, 9))
    assert lanes.learn(Outcome(bot_id, 1, took_ms=2_000.0) for bot_id in range(1, 9)).slowed == ()
    assert parting.alone == frozenset()


def test_a_bot_that_was_slow_once_comes_back_and_both_is_said_once():
    lanes = Lanes()
    lanes.learn(Outcome(bot_id, 1, took_ms=1.0) for bot_id in range(1, 9))
    said = [lanes.learn([Outcome(3, 1, took_ms=ms)]) for ms in (900.0, 900.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)]
    assert [parting.slowed for parting in said if parting.slowed] == [(3,)]
    assert [parting.quickened for parting in said if parting.quickened] == [(3,)]
    assert said[-1].together == {3}


def test_what_came_back_from_building_is_built_beside_others_afterwards():
    lanes = Lanes()
    assert lanes.learn([Outcome(1, 0, unbuilt="e"), Outcome(2, 0, unbuilt="e")]).alone == {1, 2}
    assert lanes.buildable([1, 2]) == []
    assert lanes.learn([Outcome(1, 1, engine="e", took_ms=1.0)]).together == {1, 2}
    assert lanes.buildable([2]) == ["e"]
    lanes.forget(())
    assert lanes.buildable([2]) == []
