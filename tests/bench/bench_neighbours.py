"""Settle time of healthy bots, without and with bots at 5 s and at 20 s a bar: `python FILE [SECONDS]`."""

import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "scheduler")]
os.environ["PYTHONPATH"] = str(ROOT)

from neighbours import add, crew_of, settle_times, write_plugins
from scheduler_stage import wait_for

from persistence.database import open_database
from persistence.schema.versions import upgrade


def measured(slow, seconds, count=8):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_plugins(folder)
        url = f"sqlite:///{folder / 'bench.db'}"
        upgrade(url)
        database = open_database(url)
        good = [add(database, "quick") for _ in range(count)]
        bad = [add(database, "sleeper", s=length) for length in slow]
        with crew_of(database, folder) as crew:
            wait_for(lambda: crew.state().ready == 2, 30)
            times = sorted(settle_times(database, crew, [*bad, *good], set(good), seconds))
        database.close()
    return len(times), statistics.median(times), times[int(len(times) * 0.95)], times[-1]


if __name__ == "__main__":
    duration = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    for slow in ((), (5.0, 20.0)):
        bars, median, late, latest = measured(slow, duration)
        print(f"slow bots {slow}: {bars} bars, median {median:.3f} s, 95% {late:.3f} s, most {latest:.3f} s")
