"""The sections of a bot's configuration as pydantic models.

They are the only place where a field, its unit, range and default are written down; faults and
docs/configuration.md quote them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from strategies.values import interval_ms

DEFAULT_SHARE: Final = 0.1
LONGEST_INTERVAL_MS: Final = interval_ms("4w")
SYMBOL: Final = re.compile(r"[A-Z0-9]{1,20}/[A-Z0-9]{1,20}|[A-Z0-9]{2,30}")
SYMBOL_FORMS: Final = "a symbol in capitals, such as BTCUSDT or BTC/USDT"
INTERVAL_FORMS: Final = "a whole number of s, m, h, d or w up to 4w, such as 1m, 15m or 4h"
FILE_FORMS: Final = "a path inside the service's csv folder, such as btc/1h.csv, without .. or a leading /"


def known_symbol(text: str) -> str:
    if not SYMBOL.fullmatch(text):
        hint = f"; did you mean {text.upper()}?" if SYMBOL.fullmatch(text.upper()) else ""
        raise ValueError(SYMBOL_FORMS + hint)
    return text


def _interval(text: str) -> str:
    try:
        length = interval_ms(text)
    except ValueError as exc:
        raise ValueError(INTERVAL_FORMS) from exc
    if length > LONGEST_INTERVAL_MS:
        raise ValueError(INTERVAL_FORMS)
    return text


def _file_inside(text: str) -> str:
    parts = text.split("/")
    if any(part in {"", ".", ".."} for part in parts) or re.search(r"[\\:~]", text):
        raise ValueError(FILE_FORMS)
    return text


def _paper(mode: str) -> str:
    # The one place that keeps live bots out until there is a venue that can take their orders.
    if mode == "live":
        raise ValueError('"paper"; this version trades on paper only')
    return mode


def _unit(unit: str) -> dict[str, Any]:
    return {"unit": unit}


class Section(BaseModel):
    """Strict: "14" is not 14, 1 is not true, and a key that nobody knows is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class BrokerConfig(Section):
    type: str = Field(
        default="paper",
        pattern=r"^[a-z][a-z0-9_]{1,40}$",
        description="Where orders would go: paper, or the ccxt id of an exchange. Paper trading sends none.",
        json_schema_extra={"allowed": "paper or the ccxt id of an exchange, such as binance"},
    )
    trading_mode: Annotated[Literal["paper", "live"], AfterValidator(_paper)] = Field(
        default="paper",
        description="paper: Backtrader's broker fills the orders. live is refused by this version.",
    )
    name: str | None = Field(
        default=None, max_length=100, description="A name for the account; shown, never used."
    )
    cash: float = Field(
        default=10_000.0,
        gt=0,
        le=1e12,
        description="Cash at the start.",
        json_schema_extra=_unit("quote currency"),
    )
    commission: float = Field(
        default=0.001,
        ge=0,
        lt=0.1,
        description="Commission of each fill.",
        json_schema_extra=_unit("fraction of its value: 0.001 is 0.1 %"),
    )
    slippage: float = Field(
        default=0.0,
        ge=0,
        lt=0.1,
        description="How much worse than its price a market or stop order fills, within the bar's range.",
        json_schema_extra=_unit("fraction of the price"),
    )


class StrategyConfig(Section):
    type: str = Field(
        min_length=1,
        max_length=200,
        description="CustomStrategy, another registered name, or module:Class of a file in a plug-in folder.",
        json_schema_extra={"allowed": "a registered name or module:Class"},
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="What the strategy type takes; see there."
    )


class LogicConfig(Section):
    """One mixin of CustomStrategy."""

    name: str = Field(min_length=1, max_length=100, description="Name of the mixin.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="Its parameters; those left out have the mixin's defaults."
    )


class CustomParameters(Section):
    """`strategy.parameters` of CustomStrategy."""

    entry_logic: LogicConfig = Field(description="The mixin that decides when to buy.")
    exit_logic: LogicConfig = Field(description="The mixin that decides when to sell.")
    position_size: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="The same as trading.position_size; if both are given they must agree.",
        json_schema_extra=_unit("share of equity"),
    )


class DataConfig(Section):
    data_source: str = Field(
        pattern=r"^[a-z][a-z0-9_]{1,40}$",
        description="csv (a file of the service's csv folder), generated (a made-up market), "
        "or the ccxt id of an exchange whose public candles are used.",
        json_schema_extra={"allowed": "csv, generated or the ccxt id of an exchange, such as binance"},
    )
    interval: Annotated[str, AfterValidator(_interval)] = Field(
        description="Length of a bar.", json_schema_extra={"allowed": INTERVAL_FORMS}
    )
    lookback_bars: int = Field(
        default=500,
        ge=0,
        le=100_000,
        description="Bars before the start that the strategy sees without trading on them.",
        json_schema_extra=_unit("bars"),
    )
    file: Annotated[str, AfterValidator(_file_inside)] | None = Field(
        default=None,
        max_length=200,
        description="The file of a csv source; required there and refused elsewhere.",
        json_schema_extra={"allowed": FILE_FORMS},
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2**63 - 1,
        description="Which made-up market a generated source shows; refused elsewhere. Left out, it is 0.",
    )


class TradingConfig(Section):
    position_size: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description=f"What an order without a size of its own invests; {DEFAULT_SHARE} if left out.",
        json_schema_extra=_unit("share of equity"),
    )
    max_positions: int | None = Field(
        default=None,
        ge=1,
        le=1_000,
        description="Entries open at once; adding to a position is one more. No limit if left out.",
        json_schema_extra=_unit("entries"),
    )


class RiskConfig(Section):
    """A limit that is left out does not apply."""

    max_position_size: float | None = Field(
        default=None,
        gt=0,
        le=1e12,
        description="Value up to which positions may grow; an entry beyond it is refused.",
        json_schema_extra=_unit("quote currency"),
    )
    stop_loss_pct: float | None = Field(
        default=None,
        gt=0,
        lt=100,
        description="Distance of the stop order from the average entry price.",
        json_schema_extra=_unit("percent"),
    )
    take_profit_pct: float | None = Field(
        default=None,
        gt=0,
        le=10_000,
        description="Distance of the limit order from the average entry price.",
        json_schema_extra=_unit("percent"),
    )
    max_daily_loss: float | None = Field(
        default=None,
        gt=0,
        le=1e12,
        description="Realised net loss of a UTC day from which entries are refused until the next.",
        json_schema_extra=_unit("quote currency"),
    )
    max_daily_trades: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Entries that a UTC day may have; further ones are refused until the next.",
        json_schema_extra=_unit("entries a day"),
    )


class NotificationConfig(Section):
    position_opened: bool = Field(default=True, description="Tell of each position that is opened.")
    position_closed: bool = Field(
        default=True, description="Tell of each position that is closed, with its result."
    )
    email_enabled: bool = Field(default=False, description="By e-mail.")
    telegram_enabled: bool = Field(default=False, description="By Telegram.")
    error_notifications: bool = Field(default=True, description="Tell of errors.")
    performance_summaries: Literal["off", "daily", "weekly"] = Field(
        default="off", description="How often to sum up."
    )
    risk_alerts: bool = Field(default=True, description="Tell of stops, targets and limits that were hit.")
