"""Which bots wait for a worker, and what the next worker gets. No clock, no process, no database.

States of a bot and the moves between them; an empty cell changes nothing:

| a bot is ... | `add` (a fire) | `take` | `finish` | `halve` | `hold` | `let_go` | `forget` |
|---|---|---|---|---|---|---|---|
| idle | waits; sealed if it has to run alone | | | | | | |
| waiting | | runs | | | | | idle |
| sealed | remembered | runs | | | | | |
| running | remembered | | idle; waits if a fire was remembered | sealed | held | | |
| held | remembered | | | | | idle; what was remembered is forgotten | |

True between any two calls: a bot is in at most one batch. A fire for one that waits is that same wish, so
it changes nothing; a fire for one that runs may be for a bar that closed after its rows were read, so it
is remembered and never dropped. Bots of a sealed batch count as running while the batch still waits: a
fire would put them into a second one.

`hold` comes before the `finish` of the batch, else `finish` would hand the held bot out again. What was
fired while a bot was held is forgotten at `let_go`, because the charge says when it may run next.

**Home.** A bot has a home worker, whose process keeps its engine and state; another one takes it only after
it has waited for `STEAL_AFTER_S`. **Groups.** A batch is of one group (exchange), and a group occupies
at most `per_group` workers, so that an exchange that hangs leaves workers to the others. Within a home
the group whose first bot has waited longest is next: dicts keep the order of waiting.

Everything here belongs to the crew's thread; only `has` is called by others.
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
        self._workers = workers
        self._batch = batch
        self._per_group = per_group or max(1, workers // 2)
        # By home worker and group: bot -> since when it waits (monotonic s), longest first.
        self._waiting: list[dict[str, dict[int, float]]] = [{} for _ in range(workers)]
        self._sealed: deque[Batch] = deque()  # handed out before all that waits
        self._running: set[int] = set()  # in a batch, also in a sealed one that nobody has taken yet
        self._again: set[int] = set()  # fired while they ran or were held
        self._alone: set[int] = set()  # were charged and have not ended well since: no bot shares their batch
        self._held: set[int] = set()  # their charge is not in the database yet
        self._busy: Counter[str] = Counter()  # workers that a group occupies

    @property
    def waiting(self) -> int:
        return sum(len(bots) for groups in self._waiting for bots in groups.values())

    @property
    def running(self) -> int:
        return len(self._running)

    def has(self, bot_id: int) -> bool:
        """Whether the bot waits, runs or is held: then its lateness is known here."""
        at_home = list(self._waiting[bot_id % self._workers].values())  # copied: another thread asks
        return bot_id in self._running or bot_id in self._held or any(bot_id in bots for bots in at_home)

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
                self._waiting[bot_id % self._workers].setdefault(group, {}).setdefault(bot_id, now_s)

    def take(self, worker: int, now_s: float) -> Batch | None:
        """Return work for the idle worker number `worker`, or None."""
        # Sealed batches go first: their bots are held up by one that is still to be found.
        batch = self._take_sealed() or self._take_from(worker, now_s, 0.0)
        others = (index for index in range(self._workers) if index != worker)
        while batch is None and (other := next(others, None)) is not None:
            batch = self._take_from(other, now_s, STEAL_AFTER_S)
        if batch is not None:
            self._busy[batch.group] += 1
            self._running.update(batch.bot_ids)
        return batch

    def finish(self, batch: Batch, now_s: float) -> None:
        """End a batch; bots that were fired meanwhile wait again."""
        self._busy[batch.group] -= 1
        fired = [bot_id for bot_id in batch.bot_ids if bot_id in self._again and bot_id not in self._held]
        self._running.difference_update(batch.bot_ids)
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

    def _seal(self, batch: Batch) -> None:
        self._running.update(batch.bot_ids)
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
        chosen = tuple(bot_id for bot_id, _ in zip(bots, range(self._batch), strict=False))
        for bot_id in chosen:
            del bots[bot_id]
        return Batch(chosen, group)

    def _open(self, group: str) -> bool:
        return group in LOCAL or self._busy[group] < self._per_group
