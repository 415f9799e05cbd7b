"""A bot's configuration: the JSON of its row as a frozen value, or every fault that it has.

What a strategy type or a mixin takes is known to the registry alone: give it to `parse_bot_config` to have
those checked too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

from pydantic import AfterValidator, Field, ValidationError

from strategies.crossing import crossing_faults
from strategies.faults import Fault, InvalidConfig
from strategies.field_words import faults_in
from strategies.sections import (
    DEFAULT_SHARE,
    SYMBOL_FORMS,
    BrokerConfig,
    CustomParameters,
    DataConfig,
    NotificationConfig,
    RiskConfig,
    Section,
    StrategyConfig,
    TradingConfig,
    known_symbol,
)
from strategies.strict_json import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

CUSTOM: Final = "CustomStrategy"


class BotConfig(Section):
    """The configuration of one bot, as its row holds it."""

    id: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="The bot's name in commands and logs.",
        json_schema_extra={"allowed": "1 to 64 letters, digits, _ . or -, beginning with a letter or digit"},
    )
    name: str = Field(
        default="", min_length=1, max_length=100, description="The bot's name for people; the id if left out."
    )
    enabled: bool = Field(default=True, description="Whether the bot is to run once it is added.")
    symbol: Annotated[str, AfterValidator(known_symbol)] = Field(
        description="What is traded.", json_schema_extra={"allowed": SYMBOL_FORMS}
    )
    broker: BrokerConfig = Field(default=BrokerConfig(), description="The account.")
    strategy: StrategyConfig = Field(description="What decides.")
    data: DataConfig = Field(description="Which bars it decides on.")
    trading: TradingConfig = Field(default=TradingConfig(), description="How much is traded.")
    risk_management: RiskConfig = Field(default=RiskConfig(), description="What limits the damage.")
    notifications: NotificationConfig = Field(
        default=NotificationConfig(), description="What the owner is told."
    )

    @property
    def share(self) -> float:
        """The share of equity that an order without a size invests."""
        own = self.strategy.parameters.get("position_size") if self.strategy.type == CUSTOM else None
        return float(own or self.trading.position_size or DEFAULT_SHARE)


class KnowsStrategies(Protocol):
    """What the registry answers; parsing alone needs no Backtrader."""

    def faults(self, strategy: StrategyConfig) -> tuple[Fault, ...]: ...


def parse_bot_config(
    text_or_mapping: str | Mapping[str, Any], registry: KnowsStrategies | None = None
) -> BotConfig:
    """Return the configuration, or raise InvalidConfig with all of its faults; it raises nothing else.

    With a registry the strategy type, its mixins and their parameters are checked as well.
    """
    raw = read_object(text_or_mapping)
    if isinstance(raw.get("id"), str):
        raw.setdefault("name", raw["id"] or "bot")
    faults = list(crossing_faults(raw))
    config = None
    try:
        config = BotConfig.model_validate(raw)
    except ValidationError as exc:
        faults += faults_in(BotConfig, exc)
    strategy = config.strategy if config else _strategy_alone(raw)
    if strategy is not None:
        faults += custom_faults(strategy)
        faults += registry.faults(strategy) if registry else ()
    if faults or config is None:
        raise InvalidConfig(tuple(dict.fromkeys(faults)))
    return config


def custom_faults(strategy: StrategyConfig) -> tuple[Fault, ...]:
    """Return what is wrong with the shape of CustomStrategy's parameters; of another type, nothing."""
    if strategy.type != CUSTOM:
        return ()
    try:
        CustomParameters.model_validate(strategy.parameters)
    except ValidationError as exc:
        return faults_in(CustomParameters, exc, "strategy.parameters.")
    return ()


def _strategy_alone(raw: Mapping[str, Any]) -> StrategyConfig | None:
    """Return the strategy section of a configuration that has faults elsewhere, to find all of them."""
    try:
        return StrategyConfig.model_validate(raw.get("strategy"))
    except ValidationError:
        return None
