"""Bots whose work the database does not take, and since when: what makes health red while nobody is charged.

The loop has its own word with the database, and may well be served while steps are refused: a right on one
table is enough. So the crew remembers whose batch was lost, until a batch with that bot ends. One loss is no
news (a cut connection, a takeover); what lasts for `TOLD_AFTER_S` is.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

TOLD_AFTER_S: Final = 2.0


@dataclass(slots=True)
class Losses:
    """The crew's thread calls everything here."""

    _since: dict[int, float] = field(default_factory=dict)  # bot -> when its work was lost first, monotonic s
    _why: str = ""  # the database's words for the last loss

    def note(self, bot_ids: Iterable[int], why: str, now_s: float) -> None:
        self._why = why
        for bot_id in bot_ids:
            self._since.setdefault(bot_id, now_s)

    def over(self, bot_ids: Iterable[int]) -> None:
        for bot_id in bot_ids:
            self._since.pop(bot_id, None)

    def keep(self, bot_ids: Collection[int]) -> None:
        """Forget bots that do not run any more."""
        self._since = {bot_id: since for bot_id, since in self._since.items() if bot_id in bot_ids}

    def words(self, now_s: float) -> str:
        """Return why work is refused, or nothing while none is, or not for long enough."""
        if not self._since or now_s - min(self._since.values()) < TOLD_AFTER_S:
            return ""
        return f"{self._why} ({len(self._since)} bots wait)"
