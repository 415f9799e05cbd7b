"""Promise 1 and 6, B1: on real candles the ledger of the service is that of one continuous Backtrader run.

Three bots on each file, replayed by the `scheduler` command on SQLite and on PostgreSQL: slices in
the default suite, everything behind `make real` (ONEBAR_REAL=1).
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from continuous_run import continuous_run, found_ledger, plain_class, plain_setup

from persistence.bots import add_bot, get_bot
from persistence.database import open_database
from strategies.assembly import configure_for
from strategies.config import parse_bot_config
from strategies.registry import Registry

HERE = Path(__file__).resolve()
CANDLES = Path(os.environ.get("ONEBAR_DATA", HERE.parents[2] / "../shared/data")).resolve()
PLUGINS = HERE.parents[1] / "plugin_strategies"
EVERYTHING = os.environ.get("ONEBAR_REAL") == "1"


@dataclass(frozen=True)
class Candles:
    file: str
    interval: str
    minutes: int
    slice_from: int  # rows; slices of the hourly files begin before their first gaps
    slice_rows: int = 500


FILES = (
    Candles("btc_usdt_5m_2021.csv", "5m", 5, 4_000),
    Candles("btc_usdt_1h_2017-2022.csv", "1h", 60, 0),
    Candles("eth_usdt_1h_2017-2022.csv", "1h", 60, 0),
    Candles("ada_btc_5m_ft.csv", "5m", 5, 0),
    Candles("btc_perp_1m_2022-01.csv", "1m", 1, 2_000),
)
COMMISSION = 0.00075
CASH = 10_000.0

CUSTOM = {
    "type": "CustomStrategy",
    "parameters": {
        "entry_logic": {
            "name": "RSIBBVolumeEntryMixin",
            "params": {"e_rsi_period": 9, "e_rsi_oversold": 40, "e_bb_period": 15, "e_bb_dev": 1.2,
                       "e_vol_ma_period": 10, "e_min_volume_ratio": 0.8},
        },
        "exit_logic": {"name": "ATRExitMixin", "params": {"x_atr_period": 10, "x_sl_multiplier": 1.2}},
    },
}  # fmt: skip
RISK = {
    "max_position_size": 6_000.0, "stop_loss_pct": 2.0, "take_profit_pct": 2.5,
    "max_daily_loss": 300.0, "max_daily_trades": 4,
}  # fmt: skip
PLAIN = {
    "sma_cross:SmaCross": {"fast": 5, "slow": 14},
    "channel_breakout:ChannelBreakout": {"period": 12, "hold": 10},
}


def config_of(candles, name, strategy, risk):
    return json.dumps(
        {
            "id": name.partition(":")[0],
            "name": name,
            "symbol": "BTCUSDT",
            "broker": {"type": "paper", "trading_mode": "paper", "cash": CASH, "commission": COMMISSION},
            "strategy": strategy,
            "data": {
                "data_source": "csv",
                "file": candles.file,
                "interval": candles.interval,
                "lookback_bars": 0,
            },
            "trading": {"position_size": 0.5},
            "risk_management": risk,
        }
    )


@pytest.fixture
def folder(tmp_path):
    """Give a csv folder with the slices, or the folder with everything."""
    if EVERYTHING:
        return CANDLES
    for candles in FILES:
        header, *rows = (CANDLES / candles.file).read_text().splitlines()
        chosen = rows[candles.slice_from : candles.slice_from + candles.slice_rows]
        (tmp_path / candles.file).write_text("\n".join([header, *chosen]) + "\n")
    return tmp_path


def configs_of(candles):
    yield "custom", config_of(candles, "custom", CUSTOM, RISK)
    for name, parameters in PLAIN.items():
        yield name, config_of(candles, name, {"type": name, "parameters": parameters}, {})


def expected_ledger(candles, folder, name, config):
    if name == "custom":
        configure = configure_for(parse_bot_config(config), Registry([PLUGINS]))
    else:
        strategy = plain_class(PLUGINS, name)
        configure = plain_setup(strategy, PLAIN[name], cash=CASH, commission=COMMISSION)
    return continuous_run(folder / candles.file, candles.minutes, configure)


def add_bots(url):
    bots = {}
    database = open_database(url)
    with database.write() as connection:
        for candles in FILES:
            for name, config in configs_of(candles):
                bots[candles, name, config] = add_bot(connection, config=config, now_ms=0)
    database.close()
    return bots


def replay_all(url, folder, tmp_path):
    settings = tmp_path / "scheduler.toml"
    settings.write_text(
        f'[strategies]\nplugins = ["{PLUGINS.as_posix()}"]\n[markets]\ncsv_folder = "{folder.as_posix()}"\n'
    )
    command = [
        str(Path(sys.executable).with_name("scheduler")),
        "replay",
        "--from",
        "2017-01-01",
        "--to",
        "2023-01-01",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"ONEBAR_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(0)
def test_the_ledger_is_that_of_one_continuous_run(database_url, folder, tmp_path, capsys):
    bots = add_bots(database_url)
    summary = replay_all(database_url, folder, tmp_path)
    database = open_database(database_url)
    bars = trades = 0
    for (candles, name, config), bot_id in bots.items():
        expected = expected_ledger(candles, folder, name, config)
        found = found_ledger(database, bot_id)
        assert found.equity == expected.equity, f"{name} on {candles.file}"
        assert found.trades == expected.trades, f"{name} on {candles.file}"
        with database.read() as connection:
            bot = get_bot(connection, bot_id)
        assert bot.total_pnl == sum((trade[5] for trade in expected.trades), Decimal(0))
        assert bot.status == "running"
        assert bot.error_count == 0
        bars += len(found.equity)
        trades += len(found.trades)
    database.close()
    assert trades > len(bots), "too few trades to say anything"
    with capsys.disabled():
        print(
            f"\n{len(bots)} bots, {bars} bars, {trades} trades equal to the last digit; {summary.strip()}",
            file=sys.stderr,
        )
