"""Engines and states that a process keeps warm. A cache: dropping any of it costs time and nothing else.

Bots with the same strategy, parameters, broker and risk rules share one engine, which swaps
their states; the state of a bot is kept beside its version, so that it is fetched only if
somebody else has moved the bot.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from strategies.assembly import build_engine
from strategies.config import BotConfig, parse_bot_config
from strategies.engine import Engine
from strategies.registry import Registry

ENGINES_KEPT = 256  # about 300 KB each
STATES_KEPT = 20_000  # about 2 KB each


@dataclass(slots=True)
class EngineCache:
    registry: Registry
    _engines: OrderedDict[str, Engine] = field(default_factory=OrderedDict)
    _configs: OrderedDict[str, BotConfig] = field(default_factory=OrderedDict)
    _states: OrderedDict[int, tuple[int, bytes]] = field(default_factory=OrderedDict)

    def config(self, text: str) -> BotConfig:
        """Parse a row's configuration. Raises InvalidConfig."""
        known = self._configs.get(text)
        if known is None:
            known = self._configs[text] = parse_bot_config(text)
            _trim(self._configs, STATES_KEPT)
        self._configs.move_to_end(text)
        return known

    def engine(self, config: BotConfig) -> Engine:
        """Return the engine for what decides in a configuration. Raises InvalidConfig, NotCarriable."""
        key = config.model_dump_json(exclude={"id", "name", "enabled", "notifications"})
        engine = self._engines.get(key)
        if engine is None:
            engine = self._engines[key] = build_engine(config, self.registry)
            _trim(self._engines, ENGINES_KEPT)
        self._engines.move_to_end(key)
        return engine

    def versions(self) -> dict[int, int]:
        return {bot_id: version for bot_id, (version, _) in self._states.items()}

    def state(self, bot_id: int) -> bytes:
        return self._states[bot_id][1]

    def keep(self, bot_id: int, version: int, state: bytes) -> None:
        self._states[bot_id] = (version, state)
        self._states.move_to_end(bot_id)
        _trim(self._states, STATES_KEPT)

    def forget(self, bot_id: int) -> None:
        self._states.pop(bot_id, None)


def _trim(kept: "OrderedDict[Any, Any]", most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)
