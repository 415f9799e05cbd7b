"""Which bots wait for a worker, and what the next worker gets. No clock, no process, no database.

States of a bot: idle -> waiting -> running -> idle; a fire for one that runs makes it wait again
afterwards, a fire for one that waits changes nothing. So a bot is never in two batches at once.

A bot has a home worker, whose process holds its engine in memory; another one takes it only after it
has waited for `steal_after_s`. A batch is of one group (exchange), and a group occupies at most
`per_group` workers, so that an exchange that hangs leaves workers to the others.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

STEAL_AFTER_S: Final = 1.0
LOCAL: Final = frozenset({"csv", "generated"})  # sources that call nobody and need no bulkhead


@dataclass(frozen=True, slots=True)
class Batch:
    """Bots of one group for one worker. `sealed` batches are run as they are, to find out who is guilty."""

    bot_ids: tuple[int, ...]
    group: str
    sealed: bool = False


class Backlog:
    def __init__(self, workers: int, batch: int, per_group: int) -> None:
        self.workers = workers
        self.batch = batch
        self.per_group = per_group or max(1, workers // 2)
        self._waiting: list[dict[str, dict[int, float]]] = [{} for _ in range(workers)]
        self._sealed: deque[Batch] = deque()
        self._running: dict[int, str] = {}
        self._again: set[int] = set()
        self._alone: set[int] = set()
        self._held: set[int] = set()
        self._busy: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        return sum(len(bots) for groups in self._waiting for bots in groups.values())

    @property
    def running(self) -> int:
        return len(self._running)

    def has(self, bot_id: int) -> bool:
        """Whether the bot waits, runs or is held: then its lateness is known here."""
        return bot_id in self._running or bot_id in self._held or self._waits(bot_id)

    def oldest(self) -> float | None:
        """Return when the bot that waits longest began to (monotonic s)."""
        firsts = [next(iter(bots.values())) for groups in self._waiting for bots in groups.values() if bots]
        return min(firsts, default=None)

    def add(self, bots: Iterable[tuple[int, str]], now_s: float) -> None:
        """Let bots (id, group) wait for a worker."""
        for bot_id, group in bots:
            if bot_id in self._running or bot_id in self._held:
                self._again.add(bot_id)
            elif bot_id in self._alone:
                self._seal(Batch((bot_id,), group, sealed=True))
            else:
                self._waiting[bot_id % self.workers].setdefault(group, {}).setdefault(bot_id, now_s)

    def take(self, worker: int, now_s: float) -> Batch | None:
        """Return work for the idle worker number `worker`, or None."""
        batch = self._take_sealed() or self._take_from(worker, now_s, 0.0)
        others = (index for index in range(self.workers) if index != worker)
        while batch is None and (other := next(others, None)) is not None:
            batch = self._take_from(other, now_s, STEAL_AFTER_S)
        if batch is not None:
            self._busy[batch.group] += 1
            self._running.update(dict.fromkeys(batch.bot_ids, batch.group))
        return batch

    def finish(self, batch: Batch, now_s: float) -> None:
        """End a batch; bots that were fired meanwhile wait again."""
        self._busy[batch.group] -= 1
        fired = [bot_id for bot_id in batch.bot_ids if bot_id in self._again and bot_id not in self._held]
        for bot_id in batch.bot_ids:
            self._running.pop(bot_id, None)
        self._again.difference_update(fired)
        self.add(((bot_id, batch.group) for bot_id in fired), now_s)

    def halve(self, batch: Batch) -> None:
        """Queue a batch that died of nobody knows what in two halves, ahead of everything else."""
        middle = len(batch.bot_ids) // 2
        for half in (batch.bot_ids[:middle], batch.bot_ids[middle:]):
            if half:
                self._seal(Batch(half, batch.group, sealed=True))

    def hold(self, bot_id: int) -> None:
        """Keep a bot back until `let_go`, when its charge is in the database. It runs alone from now on."""
        self._held.add(bot_id)
        self._alone.add(bot_id)

    def let_go(self, bot_id: int) -> None:
        self._held.discard(bot_id)
        self._again.discard(bot_id)

    def trust(self, bot_ids: Collection[int]) -> None:
        """Let bots that ended well share batches again."""
        self._alone.difference_update(bot_ids)

    def forget(self, keep: Collection[int]) -> None:
        """Drop what waits and is not among `keep`: bots that were paused, removed or stopped."""
        kept = frozenset(keep)
        for groups in self._waiting:
            for group, bots in groups.items():
                groups[group] = {bot_id: since for bot_id, since in bots.items() if bot_id in kept}

    def _waits(self, bot_id: int) -> bool:
        at_home = self._waiting[bot_id % self.workers]
        return any(bot_id in bots for bots in list(at_home.values()))  # copied: others ask, too

    def _seal(self, batch: Batch) -> None:
        # From here on its bots count as running: a fire must not put them into a second batch.
        self._running.update(dict.fromkeys(batch.bot_ids, batch.group))
        self._sealed.append(batch)

    def _take_sealed(self) -> Batch | None:
        for batch in self._sealed:
            if self._open(batch.group):
                self._sealed.remove(batch)
                return batch
        return None

    def _take_from(self, home: int, now_s: float, after_s: float) -> Batch | None:
        """Take up to a batch of the group whose first bot has waited longest."""
        groups = {
            group: next(iter(bots.values()))
            for group, bots in self._waiting[home].items()
            if bots and self._open(group) and now_s - next(iter(bots.values())) >= after_s
        }
        if not groups:
            return None
        group = min(groups, key=lambda name: groups[name])
        bots = self._waiting[home][group]
        chosen = tuple(bot_id for bot_id, _ in zip(bots, range(self.batch), strict=False))
        for bot_id in chosen:
            del bots[bot_id]
        return Batch(chosen, group)

    def _open(self, group: str) -> bool:
        return group in LOCAL or self._busy[group] < self.per_group
