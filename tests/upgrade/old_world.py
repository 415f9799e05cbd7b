"""The bots of the database that is kept here, and the making of it: `python old_world.py FILE.db.gz`.

It uses only what the commit that made the file and today's code have in common, so the same lines write
the bots of the old database and those of the undisturbed run that it is compared with.
"""

import gzip
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from persistence import schema
from persistence.bots import add_bot
from persistence.database import open_database

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "ops" / "demo"
STRATEGIES_OF_TESTS = HERE.parent / "plugin_strategies"
PLUGINS = (DEMO / "strategies", STRATEGIES_OF_TESTS)
BEGIN, STOPPED = "2024-01-01T00:00:00Z", "2024-01-01T03:28:00Z"
ADDED_MS = 1_600_000_000_000  # long before BEGIN: nothing of the world depends on the day it was made
SYMBOL, SEED = "BTCUSDT", 1
CASH, COMMISSION = 10_000.0, 0.00075
PLAIN = {
    "sma_cross:SmaCross": {"fast": 4, "slow": 11},
    "channel_breakout:ChannelBreakout": {"period": 8, "hold": 14},
    "alternating:Alternating": {},
}
RISK = {
    "max_position_size": 6_000.0, "stop_loss_pct": 0.4, "take_profit_pct": 0.6,
    "max_daily_loss": 300.0, "max_daily_trades": 40,
}  # fmt: skip


def configs() -> dict[str, str]:
    """Return by name: the demo's five at one-minute bars, the tests' plug-ins, one with every risk limit."""
    demo = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(DEMO.glob("*.json"))]
    for config in demo:
        config["data"] |= {"interval": "1m", "lookback_bars": 60, "seed": SEED}
        config["symbol"] = SYMBOL if config["symbol"] == SYMBOL else "ETHUSDT"
    custom = next(config["strategy"] for config in demo if config["strategy"]["type"] == "CustomStrategy")
    own = [_own(name, {"type": name, "parameters": parameters}, {}) for name, parameters in PLAIN.items()]
    return {
        config["id"]: json.dumps(config, sort_keys=True)
        for config in (*demo, *own, _own("limited", custom, RISK))
    }


def _own(name: str, strategy: dict, risk: dict) -> dict:
    return {
        "id": name.partition(":")[0],
        "name": name,
        "symbol": SYMBOL,
        "broker": {"type": "paper", "trading_mode": "paper", "cash": CASH, "commission": COMMISSION},
        "strategy": strategy,
        "data": {"data_source": "generated", "seed": SEED, "interval": "1m", "lookback_bars": 0},
        "trading": {"position_size": 0.5},
        "risk_management": risk,
        "notifications": {"position_opened": True, "position_closed": True},
    }


def add_bots(url: str) -> dict[str, int]:
    """Make the schema and the rows; return the ids by name."""
    schema.upgrade(url)
    database = open_database(url)
    try:
        with database.write() as connection:
            return {
                name: add_bot(connection, config=config, now_ms=ADDED_MS)
                for name, config in configs().items()
            }
    finally:
        database.close()


def replay(url: str, folder: Path, *, end: str) -> "subprocess.CompletedProcess[str]":
    """Run the `scheduler replay` of this interpreter from BEGIN, or from where the bots stand, to `end`."""
    folders = ", ".join(f'"{plugins.as_posix()}"' for plugins in PLUGINS)
    (folder / "scheduler.toml").write_text(f"[strategies]\nplugins = [{folders}]\n", encoding="utf-8")
    return subprocess.run(
        [Path(sys.executable).with_name("scheduler"), "replay", "--from", BEGIN, "--to", end],
        cwd=folder,
        env=os.environ | {"ONEBAR_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> None:
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "old.db"
        add_bots(f"sqlite:///{file}")
        done = replay(f"sqlite:///{file}", Path(name), end=STOPPED)
        print(done.stdout, done.stderr)
        done.check_returncode()
        with closing(sqlite3.connect(file)) as connection:
            # One file without a journal beside it, and without pages that nothing uses.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("VACUUM")
        target.write_bytes(gzip.compress(file.read_bytes(), mtime=0))


if __name__ == "__main__":
    main()
