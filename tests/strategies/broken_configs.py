"""Broken configurations: the reference configuration with one thing wrong, and what must be said about it.

`BROKEN` serves the parser's own tests and those of the commands and the service: `text_of(case)` is the text
that a user would hand in. Every fault expected is (path, part of what was found, part of what is allowed).
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REFERENCE = {
    "id": "rsi_atr_btc_paper",
    "name": "RSI+ATR BTC Paper Trading",
    "enabled": True,
    "symbol": "BTCUSDT",
    "broker": {
        "type": "binance",
        "trading_mode": "paper",
        "name": "rsi_atr_btc_paper_broker",
        "cash": 100.0,
    },
    "strategy": {
        "type": "CustomStrategy",
        "parameters": {
            "entry_logic": {
                "name": "RSIBBVolumeEntryMixin",
                "params": {
                    "e_rsi_period": 14,
                    "e_rsi_oversold": 30,
                    "e_bb_period": 20,
                    "e_bb_dev": 2.0,
                    "e_vol_ma_period": 20,
                    "e_min_volume_ratio": 1.1,
                    "e_use_bb_touch": True,
                },
            },
            "exit_logic": {"name": "ATRExitMixin", "params": {"x_atr_period": 14, "x_sl_multiplier": 1.5}},
            "position_size": 0.1,
        },
    },
    "data": {"data_source": "binance", "interval": "1h", "lookback_bars": 500},
    "trading": {"position_size": 0.1, "max_positions": 1},
    "risk_management": {
        "max_position_size": 1000.0,
        "stop_loss_pct": 3.0,
        "take_profit_pct": 6.0,
        "max_daily_loss": 200.0,
        "max_daily_trades": 5,
    },
    "notifications": {
        "position_opened": True,
        "position_closed": True,
        "email_enabled": False,
        "telegram_enabled": True,
        "error_notifications": True,
        "performance_summaries": "daily",
        "risk_alerts": True,
    },
}

GONE = object()
ENTRY = "strategy.parameters.entry_logic"
EXIT = "strategy.parameters.exit_logic"


@dataclass(frozen=True, slots=True)
class Broken:
    """`change` edits a copy of the reference, or returns the text that takes its place."""

    name: str
    change: Callable[[dict[str, Any]], str | None]
    faults: tuple[tuple[str, str, str], ...]


def text_of(case: Broken) -> str:
    config = copy.deepcopy(REFERENCE)
    return case.change(config) or json.dumps(config)


def put(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        *parents, key = path.split(".")
        for parent in parents:
            config = config[parent]
        if value is GONE:
            del config[key]
        else:
            config[key] = value

    return change


def all_of(*changes: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for each in changes:
            each(config)

    return change


def text(replacement: str) -> Callable[[dict[str, Any]], str]:
    return lambda _: replacement


def spelled(old: str, new: str) -> Callable[[dict[str, Any]], str]:
    """Edit the text itself, for what json.dumps would never write."""
    whole = json.dumps(REFERENCE)
    assert old in whole
    return lambda _: whole.replace(old, new, 1)


YES = True


def one(name: str, path: str, value: object, found: str, allowed: str) -> Broken:
    return Broken(name, put(path, value), ((path, found, allowed),))


BROKEN: tuple[Broken, ...] = (
    # The text
    Broken("empty", text(" "), (("(all)", "line 1", "JSON"),)),
    Broken("no JSON", text("id: bot"), (("(all)", "line 1 column 1", "JSON"),)),
    Broken("cut in the middle", text(json.dumps(REFERENCE)[:200]), (("(all)", "column", "JSON"),)),
    Broken("an array", text("[]"), (("(all)", "[]", "an object"),)),
    Broken("a number", text("14"), (("(all)", "14", "an object"),)),
    Broken("null", text("null"), (("(all)", "null", "an object"),)),
    Broken("trailing comma", text('{"id": "a",}'), (("(all)", "line 1", "JSON"),)),
    Broken("single quotes", text("{'id': 'a'}"), (("(all)", "line 1 column 2", "JSON"),)),
    Broken("NaN", spelled("100.0", "NaN"), (("(all)", "NaN", "finite"),)),
    Broken("Infinity", spelled("100.0", "Infinity"), (("(all)", "Infinity", "finite"),)),
    Broken("a number beyond doubles", spelled("100.0", "1e999"), (("broker.cash", "inf", "finite"),)),
    Broken("a number of 5000 digits", spelled("500", "5" * 5000), (("(all)", "too many digits", "shorter"),)),
    Broken("a key twice", spelled('"cash"', '"name": "x", "cash"'), (("name", "twice", "once"),)),
    Broken("nested too deeply", text("[" * 100_000), (("(all)", "deep", "32 levels"),)),
    Broken("an object too deep", text('{"a":' * 40 + "1" + "}" * 40), (("a.a", "deep", "32 levels"),)),
    Broken("too long", text(" " * 300_000 + "{}"), (("(all)", "300002 characters", "262144"),)),
    # The bot
    one("no id", "id", GONE, "nothing", "letters, digits"),
    one("empty id", "id", "", '""', "letters, digits"),
    one("an id with a space", "id", "my bot", '"my bot"', "letters, digits"),
    one("an id with a slash", "id", "../etc", '"../etc"', "letters, digits"),
    one("an id that is a number", "id", 7, "7", "letters, digits"),
    one("a name with a line break", "name", "a\nb", "a\\nb", "printable"),
    one("a name with NUL", "name", "a\0b", "u0000", "printable"),
    Broken("half a surrogate", spelled("RSI+ATR", "\\ud800"), (("name", "ud800", "printable"),)),
    one("enabled as text", "enabled", "true", '"true"', "true or false"),
    one("enabled as a number", "enabled", 1, "1", "true or false"),
    one("no symbol", "symbol", GONE, "nothing", "BTCUSDT or BTC/USDT"),
    one("a symbol in small letters", "symbol", "btcusdt", '"btcusdt"', "did you mean BTCUSDT?"),
    one("a symbol with a dash", "symbol", "BTC-USDT", '"BTC-USDT"', "BTCUSDT or BTC/USDT"),
    one("a symbol with two slashes", "symbol", "A/B/C", '"A/B/C"', "BTCUSDT or BTC/USDT"),
    one("an unknown key", "simbol", "BTCUSDT", "text of 7 characters", "did you mean symbol?"),
    one("an unknown section", "brokr", {}, "{}", "did you mean broker?"),
    # The broker
    one("broker is text", "broker", "binance", '"binance"', "an object with type"),
    one("broker is null", "broker", None, "null", "an object with type"),
    one("an unknown key of the broker", "broker.csah", 5, "5", "did you mean cash?"),
    one("live", "broker.trading_mode", "live", '"live"', "paper only"),
    one("an unknown mode", "broker.trading_mode", "papre", '"papre"', '"paper"'),
    one("a broker type with a capital", "broker.type", "Binance", '"Binance"', "ccxt id"),
    one("no cash", "broker.cash", 0, "0", "above 0"),
    one("negative cash", "broker.cash", -100.0, "-100.0", "above 0"),
    one("cash as text", "broker.cash", "100", '"100"', "a number above 0"),
    one("cash as true", "broker.cash", YES, "true", "a number above 0"),
    one("cash beyond all reason", "broker.cash", 1e300, "1e+300", "1,000,000,000,000"),
    one("commission in percent", "broker.commission", 0.1, "0.1", "below 0.1 (fraction"),
    one("negative commission", "broker.commission", -0.001, "-0.001", "from 0"),
    one("negative slippage", "broker.slippage", -0.01, "-0.01", "from 0"),
    one("slippage as text", "broker.slippage", "0.1%", '"0.1%"', "fraction of the price"),
    # The strategy
    one("no strategy", "strategy", GONE, "nothing", "an object with type, parameters"),
    one("no strategy type", "strategy.type", GONE, "nothing", "module:Class"),
    one("parameters as an array", "strategy.parameters", [], "[]", "an object"),
    one(
        "an unknown type",
        "strategy.type",
        "CustomStrategi",
        '"CustomStrategi"',
        "did you mean CustomStrategy?",
    ),
    one("a file that is not there", "strategy.type", "nowhere:Mine", "no file nowhere.py", "plug-in folder"),
    one("a way out of the folder", "strategy.type", "../evil:Mine", "'../evil:Mine'", "module:Class"),
    one("a package", "strategy.type", "os.path:join", "'os.path:join'", "module:Class"),
    one("no entry logic", ENTRY, GONE, "nothing", "an object with name, params"),
    one("no exit logic", EXIT, GONE, "nothing", "an object with name, params"),
    one(
        "an unknown key beside the logic",
        "strategy.parameters.entry_logik",
        {},
        "{}",
        "did you mean entry_logic?",
    ),
    one("entry logic without a name", ENTRY + ".name", GONE, "nothing", "text"),
    one(
        "an unknown mixin",
        ENTRY + ".name",
        "RSIBBVolumEntryMixin",
        "Volum",
        "did you mean RSIBBVolumeEntryMixin?",
    ),
    one("an exit mixin as entry", ENTRY + ".name", "ATRExitMixin", '"ATRExitMixin"', "RSIBBVolumeEntryMixin"),
    one("an entry mixin as exit", EXIT + ".name", "RSIBBVolumeEntryMixin", "RSIBB", "ATRExitMixin"),
    one(
        "a period as text",
        ENTRY + ".params.e_rsi_period",
        "14",
        '"14"',
        "a whole number from 2 to 500 (bars)",
    ),
    one("a period with a fraction", ENTRY + ".params.e_rsi_period", 14.5, "14.5", "a whole number"),
    one("a period of 1", ENTRY + ".params.e_rsi_period", 1, "1", "from 2"),
    one("a level above 100", ENTRY + ".params.e_rsi_oversold", 130, "130", "from 0 to 100"),
    one("a deviation of 0", ENTRY + ".params.e_bb_dev", 0, "0", "above 0"),
    one("a flag as a word", ENTRY + ".params.e_use_bb_touch", "yes", '"yes"', "true or false"),
    one("an unknown parameter", ENTRY + ".params.e_rsi_perod", 14, "14", "did you mean"),
    one("a parameter of the other mixin", ENTRY + ".params.x_atr_period", 14, "14", "one of:"),
    one("a multiplier that is negative", EXIT + ".params.x_sl_multiplier", -1.5, "-1.5", "above 0"),
    one("a period of a million", EXIT + ".params.x_atr_period", 1_000_000, "1000000", "to 500"),
    Broken(
        "a parameter with and without its prefix",
        put(EXIT + ".params.atr_period", 10),
        ((EXIT + ".params.atr_period", "twice", "either atr_period or x_atr_period"),),
    ),
    # The data
    one("no data", "data", GONE, "nothing", "an object with data_source"),
    one("no source", "data.data_source", GONE, "nothing", "csv, generated or"),
    one("a source that is a path", "data.data_source", "/etc/passwd", "passwd", "csv, generated or"),
    one("no interval", "data.interval", GONE, "nothing", "1m, 15m or 4h"),
    one("an interval without a unit", "data.interval", "60", '"60"', "1m, 15m or 4h"),
    one("an interval as a number", "data.interval", 60, "60", "1m, 15m or 4h"),
    one("an interval of nothing", "data.interval", "0m", '"0m"', "1m, 15m or 4h"),
    one("months", "data.interval", "1M", '"1M"', "1m, 15m or 4h"),
    one("an interval of a year", "data.interval", "52w", '"52w"', "up to 4w"),
    one("negative lookback", "data.lookback_bars", -1, "-1", "from 0 to 100,000 (bars)"),
    one("lookback with a fraction", "data.lookback_bars", 500.0, "500.0", "a whole number"),
    Broken(
        "csv without a file",
        put("data.data_source", "csv"),
        (("data.file", "nothing", "the name of a file"),),
    ),
    Broken(
        "a file that climbs out",
        all_of(put("data.data_source", "csv"), put("data.file", "../secret.csv")),
        (("data.file", "../secret.csv", "without .."),),
    ),
    Broken(
        "a file from the root",
        all_of(put("data.data_source", "csv"), put("data.file", "/etc/passwd")),
        (("data.file", "/etc/passwd", "inside the service's csv folder"),),
    ),
    Broken(
        "a file of another drive",
        all_of(put("data.data_source", "csv"), put("data.file", "C:\\x.csv")),
        (("data.file", "x.csv", "inside the service's csv folder"),),
    ),
    one("a file without csv", "data.file", "btc.csv", '"btc.csv"', 'data.data_source is "binance"'),
    one("a seed without a generated market", "data.seed", 1, "1", 'data.data_source is "binance"'),
    Broken(
        "a negative seed",
        all_of(put("data.data_source", "generated"), put("data.seed", -1)),
        (("data.seed", "-1", "from 0"),),
    ),
    # Trading and risk
    Broken(
        "two sizes",
        put("trading.position_size", 0.2),
        (("strategy.parameters.position_size", "0.1", "trading.position_size (0.2)"),),
    ),
    one("a size in percent", "trading.position_size", 10, "10", "up to 1 (share of equity)"),
    one("a size of nothing", "trading.position_size", 0, "0", "above 0"),
    one("no positions", "trading.max_positions", 0, "0", "from 1"),
    one("positions as text", "trading.max_positions", "one", '"one"', "a whole number from 1"),
    one("an entry beyond the limit", "risk_management.max_position_size", 5.0, "5.0", "at least"),
    one("a stop at 100 %", "risk_management.stop_loss_pct", 100, "100", "below 100 (percent)"),
    one("a negative stop", "risk_management.stop_loss_pct", -3.0, "-3.0", "above 0"),
    one("a stop as text", "risk_management.stop_loss_pct", "3%", '"3%"', "(percent), or null"),
    one("a target of 0", "risk_management.take_profit_pct", 0, "0", "above 0"),
    one("a negative loss", "risk_management.max_daily_loss", -200.0, "-200.0", "above 0 "),
    one("half a trade", "risk_management.max_daily_trades", 2.5, "2.5", "a whole number"),
    one("no trades", "risk_management.max_daily_trades", 0, "0", "from 1"),
    one("an unknown limit", "risk_management.stop_los_pct", 3.0, "3.0", "did you mean stop_loss_pct?"),
    # Notifications
    one("a flag that is null", "notifications.risk_alerts", None, "null", "true or false"),
    one("hourly summaries", "notifications.performance_summaries", "hourly", '"hourly"', '"daily"'),
    one("an unknown channel", "notifications.sms_enabled", YES, "true", "email_enabled"),
    # All at once
    Broken(
        "faults everywhere",
        all_of(
            put("symbol", "btc"),
            put("broker.cash", -1),
            put("data.interval", "1x"),
            put("extra", 1),
            put(EXIT + ".params.x_atr_period", "14"),
            put("trading.position_size", 0.2),
        ),
        (
            ("symbol", '"btc"', "BTCUSDT"),
            ("broker.cash", "-1", "above 0"),
            ("data.interval", '"1x"', "15m"),
            ("extra", "1", "one of:"),
            (EXIT + ".params.x_atr_period", '"14"', "a whole number"),
            ("strategy.parameters.position_size", "0.1", "0.2"),
        ),
    ),
)
