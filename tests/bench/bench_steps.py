"""CPU of `load` and `save_steps` per bot-step, Python and server. Not a test: run it by hand.

.venv/bin/python tests/bench/bench_steps.py [URL] [bots] [batch] [rounds]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from persistence.bots import add_bot
from persistence.database import Database, open_database
from persistence.ledger.advance import Advance, Stepped
from persistence.ledger.steps import load, save_steps
from persistence.schema.versions import upgrade
from strategies.values import Position, Step

CONFIG = (
    Path(os.environ.get("ONEBAR_BENCH_CONFIG", "")).read_text()
    if os.environ.get("ONEBAR_BENCH_CONFIG")
    else ('{"name": "' + "x" * 1_400 + '"}')
)


def server_cpu(database: Database) -> float:
    """Return the CPU seconds of all backends of a server on this machine, 0 for SQLite."""
    if database.dialect == "sqlite":
        return 0.0
    with database.read() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").first()[0]
    postmaster = psutil.Process(pid).parent()
    times = [child.cpu_times() for child in postmaster.children()]
    return sum(each.user + each.system for each in times)


def _begin(database: Database) -> tuple[float, float]:
    server = server_cpu(database)
    return time.process_time(), server


def main(url: str, bots: int, batch: int, rounds: int) -> None:
    upgrade(url)
    database = open_database(url)
    with database.write() as connection:
        ids = [add_bot(connection, config=CONFIG, now_ms=0) for _ in range(bots)]
    spent = {"load": 0.0, "save": 0.0, "load_server": 0.0, "save_server": 0.0}
    for bar in range(rounds):
        for first in range(0, bots, batch):
            part = ids[first : first + batch]
            marks = [_begin(database)]
            with database.read() as connection:
                loaded = load(connection, part, dict.fromkeys(part, bar))
            marks.append((time.process_time(), server_cpu(database)))
            advances = [_advance(each.bot, each.version, bar) for each in loaded]
            marks.append(_begin(database))
            with database.write() as connection:
                saved = save_steps(connection, advances, now_ms=1_700_000_000_000)
            marks.append((time.process_time(), server_cpu(database)))
            assert len(saved) == len(part)
            for name, begin in (("load", 0), ("save", 2)):
                spent[name] += marks[begin + 1][0] - marks[begin][0]
                spent[name + "_server"] += marks[begin + 1][1] - marks[begin][1]
    each = {name: 1_000 * seconds / (bots * rounds) for name, seconds in spent.items()}
    print(
        url.partition(":")[0],
        f"{bots} bots, batch {batch}, {rounds} rounds, ms per bot-step:",
        {name: round(value, 4) for name, value in each.items()},
    )
    database.close()


def _advance(bot, version: int, bar: int) -> Advance:
    step = Step(
        state=os.urandom(1_700),
        orders=(),
        trades=(),
        cash=9_000.125,
        value=10_000.1 + bar,
        positions=(Position("BTCUSDT", 0.01, 43_000.5),),
    )
    return Advance(
        bot_id=bot.id,
        from_version=version,
        revision=bot.revision,
        symbol="BTCUSDT",
        config=bot.config,
        steps=(Stepped(bar * 60_000, step),),
        fingerprint="f" * 32,
        took_ms=0.5,
    )


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{tempfile.mkdtemp()}/bench.db"
    main(given, *(int(each) for each in (*sys.argv[2:], *("1000", "100", "20")[len(sys.argv[2:]) :])))
