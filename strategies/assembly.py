"""From a bot's configuration to Backtrader: what a Cerebro needs beyond the bars.

`configure_for` is the only place that does it, so the engine and a plain `cerebro.run` see the same bot.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CodeType
from typing import Any, Final

import backtrader as bt

from strategies.adoption import adopt
from strategies.config import BotConfig, parse_bot_config
from strategies.engine import Bar, Engine, Feed, LooksAhead, NotCarriable
from strategies.faults import Fault, InvalidConfig
from strategies.registry import Registry, Resolved
from strategies.risk import RiskBroker
from strategies.sizing import EquityShare, FractionalCommission
from strategies.values import interval_ms

TRIAL_BARS: Final = 12
# Backtrader's standard observers cost half a bar's time; only code that reads them gets them.
OBSERVER_NAMES: Final = frozenset({"stats", "observers", "stdstats"})


def feeds_for(config: BotConfig) -> tuple[Feed, ...]:
    """Return the feeds in Backtrader's data order: one, named by the symbol as it is written."""
    return (Feed(config.symbol, config.data.interval),)


def configure_for(config: BotConfig, registry: Registry) -> Callable[[bt.Cerebro], None]:
    """Return what makes a fresh Cerebro this bot. Raises InvalidConfig for code that cannot run.

    What the owner must know without the bot being stopped is in `registry.resolve(...).warnings`.
    """
    return partial(_configure, config, registry.resolve(config.strategy))


def build_engine(config: BotConfig, registry: Registry) -> Engine:
    return Engine(configure_for(config, registry), feeds_for(config), adopt=adopt)


def check_bot(text_or_mapping: str | Mapping[str, Any], registry: Registry) -> BotConfig:
    """Parse, load the code, build the engine, step it a little: what `jobs add` demands of a configuration.

    Raises InvalidConfig for whatever goes wrong: the strategy's own __init__ may raise anything.
    """
    config = parse_bot_config(text_or_mapping, registry)
    try:
        engine = build_engine(config, registry)
        state = engine.initial()
    except InvalidConfig:
        raise
    except Exception as exc:  # the strategy is the user's: it may raise anything
        found = f"{config.strategy.type}, which raises {type(exc).__name__}: {exc}"
        allowed = "a strategy that can be built and whose state can be kept"
        raise InvalidConfig((Fault("strategy", found, allowed),)) from exc
    _try_out(config, engine, state)
    return config


def _try_out(config: BotConfig, engine: Engine, state: bytes) -> None:
    """Step a few made-up bars, to refuse now what would be refused on the bot's first bars.

    Anything else that a strategy raises may come of the made-up prices; its row would say so.
    """
    length = interval_ms(config.data.interval)
    for number in range(TRIAL_BARS):
        price = 100.0 + number % 3
        bar = Bar(number * length, price, price + 1, price - 1, price + 0.5, 10.0)
        try:
            state = engine.step(state, (bar,)).state
        except (LooksAhead, NotCarriable) as exc:
            found = f"{config.strategy.type}, on bar {number + 1}: {exc}"
            raise InvalidConfig((Fault("strategy", found, "a strategy that can run as a bot"),)) from exc
        except Exception:  # noqa: BLE001 - the strategy is the user's: it may raise anything
            return


def _configure(config: BotConfig, resolved: Resolved, cerebro: bt.Cerebro) -> None:
    limits = {**config.risk_management.model_dump(), "max_positions": config.trading.max_positions}
    if any(limit is not None for limit in limits.values()):
        cerebro.setbroker(RiskBroker(**limits))
    cerebro.broker.setcash(config.broker.cash)
    cerebro.broker.addcommissioninfo(FractionalCommission(commission=config.broker.commission))
    if config.broker.slippage:
        cerebro.broker.set_slippage_perc(config.broker.slippage)
    cerebro.p.stdstats = reads_observers(resolved.code)
    cerebro.addsizer(EquityShare, share=config.share)
    cerebro.addstrategy(resolved.code, **resolved.parameters)


def reads_observers(code: type[Any]) -> bool:
    """Tell whether a strategy's own code mentions Backtrader's observers."""
    return any(OBSERVER_NAMES.intersection(names) for names in _names_in(code))


def _names_in(code: type[Any]) -> Iterator[tuple[str, ...]]:
    for owner in code.__mro__:
        if owner.__module__.partition(".")[0] == "backtrader":
            continue
        for member in vars(owner).values():
            function = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if isinstance(start := getattr(function, "__code__", None), CodeType):
                yield from _names_under(start)


def _names_under(code: CodeType) -> Iterator[tuple[str, ...]]:
    yield code.co_names
    # getattr(self, "stats") names it in a constant.
    yield tuple(constant for constant in code.co_consts if isinstance(constant, str))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_under(constant)
