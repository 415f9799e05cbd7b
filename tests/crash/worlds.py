"""A small world to crash in: a fresh database, real candles, three bots of three kinds."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from persistence.bots import add_bot
from persistence.database import open_database
from persistence.schema.versions import upgrade

HERE = Path(__file__).resolve()
CANDLES = Path(os.environ.get("ONEBAR_DATA", HERE.parents[2] / "../shared/data")).resolve()
PLUGINS = HERE.parents[1] / "plugin_strategies"
FILE = "btc_usdt_5m_2021.csv"
BEGIN = "2021-05-01T00:00:00Z"


@dataclass(frozen=True)
class World:
    """`bars` is how many bars each bot has to step between BEGIN and `end`."""

    url: str
    settings_file: Path
    end: str
    bars: int

    @property
    def replay(self) -> list[str]:
        scheduler = Path(sys.executable).with_name("scheduler")
        return [str(scheduler), "replay", "--from", BEGIN, "--to", self.end]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"ONEBAR_DATABASE_URL": self.url, "ONEBAR_CONFIG": str(self.settings_file)}

    def replay_to_the_end(self) -> None:
        subprocess.run(
            self.replay, env=self.environment, cwd=self.settings_file.parent, check=True, capture_output=True
        )


def config_of(name: str, strategy: dict, **sections: dict) -> str:
    return json.dumps(
        {
            "id": name,
            "name": name,
            "symbol": "BTCUSDT",
            "broker": {"type": "paper", "trading_mode": "paper", "cash": 10_000.0, "commission": 0.00075},
            "strategy": strategy,
            "data": {"data_source": "csv", "file": FILE, "interval": "5m", "lookback_bars": 0},
            "trading": {"position_size": 0.5},
            "notifications": {"position_opened": True, "position_closed": True},
        }
        | sections
    )


def custom_strategy(**entry: float) -> dict:
    parameters = {"e_rsi_period": 5, "e_rsi_oversold": 48, "e_bb_period": 10, "e_bb_dev": 0.5}
    return {
        "type": "CustomStrategy",
        "parameters": {
            "entry_logic": {
                "name": "RSIBBVolumeEntryMixin",
                "params": parameters | {"e_vol_ma_period": 5, "e_min_volume_ratio": 0.5} | entry,
            },
            "exit_logic": {"name": "ATRExitMixin", "params": {"x_atr_period": 5, "x_sl_multiplier": 1.0}},
        },
    }


def plugin(name: str, **parameters: float) -> dict:
    return {"type": name, "parameters": parameters}


CONFIGS = (
    config_of("custom", custom_strategy(), risk_management={"stop_loss_pct": 1.0, "take_profit_pct": 1.0}),
    config_of("crossing", plugin("sma_cross:SmaCross", fast=3, slow=8)),
    config_of("breakout", plugin("channel_breakout:ChannelBreakout", period=6, hold=6)),
)

# Few bars, and yet orders, fills and closed trades in them.
BUSY_CONFIGS = (
    config_of("alternating", plugin("alternating:Alternating")),
    config_of("custom", custom_strategy(), risk_management={"stop_loss_pct": 1.0, "take_profit_pct": 1.0}),
)


def make_world(url: str, folder: Path, *, bars: int, configs: tuple[str, ...] = CONFIGS) -> World:
    """Make the database of `url`, the candles and the settings; `bars` is counted from BEGIN in 5m bars."""
    settings_file = folder / "scheduler.toml"
    settings_file.write_text(f'[strategies]\nplugins = ["{PLUGINS.as_posix()}"]\n')
    header_and_bars = (CANDLES / FILE).read_text().splitlines()[: bars + 1]
    (folder / FILE).write_text("\n".join(header_and_bars) + "\n")
    upgrade(url)
    database = open_database(url)
    with database.write() as connection:
        for config in configs:
            add_bot(connection, config=config, now_ms=1_600_000_000_000)
    database.close()
    minutes = bars * 5
    end = f"2021-05-{1 + minutes // 1440:02d}T{minutes % 1440 // 60:02d}:{minutes % 60:02d}:00Z"
    return World(url, settings_file, end, bars)
