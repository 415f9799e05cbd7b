"""Engines and states that a process keeps warm. A cache: dropping any of it costs time and nothing else.

Bots with the same strategy, parameters, broker and risk rules share one engine, which swaps
their states; the state of a bot is kept beside its version, so that it is fetched only if
somebody else has moved the bot.

True between any two calls: a state that is here under a version is the one that the database holds or held
under that version, byte for byte, because it is kept after the commit and not before. So the question for a
batch leaves out the states of versions that are here (`ledger.steps.load`), and a cache that is behind is no
worse than an empty one. An engine is found by what decides: the part of the configuration that a strategy
can see, and the stamps of the files that its code comes from.

A process has one, and uses it from one thread.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from strategies.assembly import build_engine
from strategies.config import BotConfig, parse_bot_config
from strategies.engine import Engine
from strategies.faults import InvalidConfig
from strategies.registry import Registry

ENGINES_KEPT: Final = 256  # of about 300 KB
STATES_KEPT: Final = 20_000  # of about 2 KB


@dataclass(frozen=True, slots=True)
class Built:
    """An engine, and what the owner has to know of how it came about (the fallback of an unknown type)."""

    engine: Engine
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """An engine that is not built in this process: a name that is the same in all, and what is known of it.

    `plain` if all of its code is ours, `edited_ms` when the youngest of its files was written.
    """

    name: str
    plain: bool
    edited_ms: int


@dataclass(slots=True)
class EngineCache:
    registry: Registry
    # By what decides, by a configuration's text, by bot. The one that was used last stands last.
    _built: OrderedDict[object, Built] = field(default_factory=OrderedDict)
    _configs: OrderedDict[str, tuple[BotConfig, str]] = field(default_factory=OrderedDict)
    _states: OrderedDict[int, tuple[int, bytes]] = field(default_factory=OrderedDict)

    def config(self, text: str) -> BotConfig:
        """Parse a row's configuration. Raises InvalidConfig."""
        return self._parsed(text)[0]

    def built(self, text: str) -> Built:
        """Return the engine of a row's configuration. Raises InvalidConfig, NotCarriable.

        An edited plug-in file is another engine: every process sees the edit at its next bar.
        """
        key = self._key(text)
        config = self.config(text)
        built = self._built.get(key)
        if built is None:
            warnings = self.registry.resolve(config.strategy).warnings
            built = self._built[key] = Built(build_engine(config, self.registry), warnings)
            _trim(self._built, ENGINES_KEPT)
        self._built.move_to_end(key)
        return built

    def missing(self, text: str) -> Missing | None:
        """Return the engine that would have to be built for a configuration. Runs no code of a strategy."""
        try:
            key = self._key(text)
        except InvalidConfig:
            return None
        if key in self._built:
            return None
        kind = self.config(text).strategy.type
        plain = not key[1] and any(known.name == kind for known in self.registry.list())
        edited_ns = max((edited for _, edited, _ in key[1]), default=0)
        name = blake2b(repr(key).encode(), digest_size=12).hexdigest()
        return Missing(name, plain, edited_ns // 1_000_000)

    def _key(self, text: str) -> tuple[str, tuple[tuple[str, int, int], ...]]:
        config, decides = self._parsed(text)
        return decides, self.registry.stamps(config.strategy)

    def _parsed(self, text: str) -> tuple[BotConfig, str]:
        """Return a configuration and, as text, the part that decides: bots that share it share an engine."""
        known = self._configs.get(text)
        if known is None:
            config = parse_bot_config(text)
            decides = config.model_dump_json(exclude={"id", "name", "enabled", "notifications"})
            known = self._configs[text] = config, decides
            _trim(self._configs, STATES_KEPT)
        self._configs.move_to_end(text)
        return known

    def versions(self, bot_ids: Iterable[int]) -> dict[int, int]:
        """Return bot id -> version of those bots whose state is here."""
        return {bot_id: self._states[bot_id][0] for bot_id in bot_ids if bot_id in self._states}

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
