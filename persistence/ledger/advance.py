"""What is known of a bot before its next bars are stepped, and what stepping them has come to."""

from collections.abc import Mapping
from dataclasses import dataclass

from persistence.notifications import Notification
from persistence.rows import Bot
from strategies.values import Step


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bot with what its next step starts from.

    `version` counts the bars it has stepped; 0 means that it has no state. `state` is None then, and
    also where the caller said that it knows this version. `state_config` is the configuration that
    the state was computed with, `trade_from` the open time of the first bar that was allowed orders,
    `first_bar` where the bot's life can be replayed from, None if it cannot.
    """

    bot: Bot
    version: int
    last_bar: int | None
    state: bytes | None
    first_bar: int | None = None
    trade_from: int | None = None
    state_config: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Stepped:
    """One bar (open time, ms), what the engine said of it, and whether orders were allowed on it."""

    bar: int
    step: Step
    trading: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """The bars that a bot has stepped since version `from_version`.

    Only the last step needs to carry the state. `revision` is that of the row the work was begun on;
    None leaves edits of the row unguarded. `symbols` names the symbol of feeds that are not `symbol`.
    """

    bot_id: int
    from_version: int
    symbol: str
    steps: tuple[Stepped, ...]
    fingerprint: str
    took_ms: float
    notifications: tuple[Notification, ...] = ()
    revision: int | None = None
    config: str = ""
    first_bar: int | None = None
    trade_from: int | None = None
    symbols: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError(f"an advance of bot {self.bot_id} without a step")

    @property
    def version(self) -> int:
        return self.from_version + len(self.steps)
