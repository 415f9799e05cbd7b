"""Which bots wait for a worker, and what the next worker gets. No clock, no process, no database.

States of a bot and the moves between them; an empty cell changes nothing:

| a bot is ... | `add` (a fire) | `take` | `finish` | `halve` | `hold` | `let_go` | `part` | `forget` |
|---|---|---|---|---|---|---|---|---|
| idle | waits | | | | | | | |
| waiting, among the others or in the lane | | runs | | | | | changes the queue | idle |
| sealed | remembered | runs | | | | | | idle |
| running | remembered | | idle; waits if a fire was remembered | sealed | held | | | fires are forgotten |
| held | remembered | | | | | idle; what was remembered is forgotten | | fires are forgotten |

True between any two calls: a bot is in at most one batch, and waits in at most one queue. A fire for one
that waits is that same wish, so it changes nothing; a fire for one that runs may be for a bar that closed
after its rows were read, so it is remembered and never dropped. Bots of a sealed batch count as running
while the batch still waits: a fire would put them into a second one. So `finish` and `halve` are two ends
of a batch and never both: what `finish` lets wait again, `halve` would seal as well. `part` moves a bot that
waits among the others into the lane, `trust` moves it back.

`hold` comes before the `finish` of the batch, else `finish` would hand the held bot out again. What was
fired while a bot was held is forgotten at `let_go`, because the charge says when it may run next.

**Home.** A bot has a home worker, whose process keeps its engine and state; another one takes it only after
it has waited for `STEAL_AFTER_S`. **Groups.** A batch is of one group (exchange), and a group occupies
at most `per_group` workers, so that an exchange that hangs leaves workers to the others. Within a home
the group whose first bot has waited longest is next: dicts keep the order of waiting.

**The lane.** Bots that may keep a worker for long, by what is known of them (`lanes.py`), run alone, and with
them the halves of batches that died of nobody knows what. Only the workers with the highest numbers serve the
lane, at most half of all, so that at least one of two never does. While one does, nobody waits for it: the
bots whose home it is go to the others at once. A lane occupies no place of its exchange: what is slow there
is the strategy. A worker that may do both does what has waited longer, at equal times the others first.

Everything here belongs to the crew's thread; only `has` is called by others.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

STEAL_AFTER_S: Final = 1.0
LOCAL: Final = frozenset({"csv", "generated"})  # sources that call nobody and need no bulkhead


@dataclass(frozen=True, slots=True)
class Batch:
    """Bots of one group for one worker.

    `sealed` batches are run as they are, to find out who is guilty; `lane` is the worker that serves
    the lane with it.
    """

    bot_ids: tuple[int, ...]
    group: str
    sealed: bool = False
    lane: int | None = None


class Backlog:
    def __init__(self, workers: int, batch: int, per_group: int) -> None:
        self._workers = workers
        self._batch = batch
        self._per_group = per_group or max(1, workers // 2)
        self._first_of_lane = workers - max(1, workers // 2)  # the number of the first worker that serves it
        # By home worker and group: bot -> since when it waits (monotonic s), longest first.
        self._waiting: list[dict[str, dict[int, float]]] = [{} for _ in range(workers)]
        self._lane: dict[int, tuple[str, float]] = {}  # group, since when it waits; handed out in this order
        self._sealed: deque[Batch] = deque()  # handed out before all that waits
        self._running: set[int] = set()  # in a batch, also in a sealed one that nobody has taken yet
        self._again: set[int] = set()  # fired while they ran or were held
        self._alone: set[int] = set()  # no bot shares their batch
        self._held: set[int] = set()  # their charge is not in the database yet
        self._busy: Counter[str] = Counter()  # workers that a group occupies
        self._serving: set[int] = set()  # workers in the lane

    @property
    def waiting(self) -> int:
        return len(self._lane) + sum(len(bots) for groups in self._waiting for bots in groups.values())

    @property
    def running(self) -> int:
        return len(self._running)

    def empty(self) -> bool:
        """Whether nothing at all is kept of any bot."""
        kept = (self._lane, self._sealed, self._running, self._again, self._alone, self._held, self._serving)
        return not any(kept) and not self.waiting and not self._busy.total()

    def has(self, bot_id: int) -> bool:
        """Whether the bot waits, runs or is held: then its lateness is known here."""
        return bot_id in self._running or bot_id in self._held or self._waits(bot_id)

    def oldest(self) -> float | None:
        """Return when the bot that waits longest began to (monotonic s); the lane does not count."""
        firsts = [next(iter(bots.values())) for groups in self._waiting for bots in groups.values() if bots]
        return min(firsts, default=None)

    def oldest_of_lane(self) -> float | None:
        return min((since for _, since in self._lane.values()), default=None)

    def add(self, bots: Iterable[tuple[int, str]], now_s: float) -> None:
        """Let bots (id, group) wait for a worker."""
        for bot_id, group in bots:
            if bot_id in self._running or bot_id in self._held:
                self._again.add(bot_id)
            elif self._waits(bot_id):
                continue  # also under another group than now: its exchange was edited in between
            elif bot_id in self._alone:
                self._lane[bot_id] = (group, now_s)
            else:
                self._at_home(bot_id).setdefault(group, {})[bot_id] = now_s

    def take(self, worker: int, now_s: float) -> Batch | None:
        """Return work for the idle worker number `worker`, or None."""
        batch = None
        if self._lane_is_first(worker):
            batch = self._take_from_lane(worker)
        batch = batch or self._take_from(worker, now_s, 0.0) or self._take_from_lane(worker)
        others = (index for index in range(self._workers) if index != worker)
        while batch is None and (other := next(others, None)) is not None:
            batch = self._take_from(other, now_s, 0.0 if other in self._serving else STEAL_AFTER_S)
        if batch is None:
            return None
        if batch.lane is None:
            self._busy[batch.group] += 1
        else:
            self._serving.add(batch.lane)
        self._running.update(batch.bot_ids)
        return batch

    def finish(self, batch: Batch, now_s: float) -> None:
        """End a batch; bots that were fired meanwhile wait again."""
        self._leave(batch)
        fired = [bot_id for bot_id in batch.bot_ids if bot_id in self._again and bot_id not in self._held]
        self._running.difference_update(batch.bot_ids)
        self._again.difference_update(fired)
        self.add(((bot_id, batch.group) for bot_id in fired), now_s)

    def halve(self, batch: Batch) -> None:
        """End a batch that died of nobody knows what by queueing it in two halves, ahead of everything else.

        Its bots go on running, so what was fired meanwhile is remembered until the halves end.
        """
        self._leave(batch)
        middle = len(batch.bot_ids) // 2
        for half in (batch.bot_ids[:middle], batch.bot_ids[middle:]):
            if half:
                self._sealed.append(Batch(half, batch.group, sealed=True))

    def hold(self, bot_id: int) -> None:
        """Keep a bot back until `let_go`, when its charge is in the database. It runs alone from now on."""
        self._held.add(bot_id)
        self._alone.add(bot_id)

    def let_go(self, bot_id: int) -> None:
        self._held.discard(bot_id)
        self._again.discard(bot_id)

    def part(self, bot_ids: Collection[int]) -> None:
        """Let bots run alone, in the lane, until they are trusted."""
        self._alone.update(bot_ids)
        for bot_id in bot_ids:
            for group, bots in self._at_home(bot_id).items():
                if bot_id in bots:
                    self._lane[bot_id] = (group, bots.pop(bot_id))

    def trust(self, bot_ids: Collection[int], now_s: float) -> None:
        """Let bots share batches again."""
        self._alone.difference_update(bot_ids)
        freed = [(bot_id, self._lane.pop(bot_id)[0]) for bot_id in bot_ids if bot_id in self._lane]
        self.add(freed, now_s)

    def forget(self, keep: Collection[int]) -> None:
        """Drop all that is known of bots that are not among `keep`: they were paused, removed or stopped.

        What runs ends by itself, and a held bot is let go when its charge is written.
        """
        kept = frozenset(keep)
        for groups in self._waiting:
            for group, bots in groups.items():
                groups[group] = {bot_id: since for bot_id, since in bots.items() if bot_id in kept}
        self._lane = {bot_id: place for bot_id, place in self._lane.items() if bot_id in kept}
        sealed, self._sealed = self._sealed, deque()
        for batch in sealed:
            left = tuple(bot_id for bot_id in batch.bot_ids if bot_id in kept)
            self._running.difference_update(set(batch.bot_ids) - kept)
            if left:
                self._sealed.append(replace(batch, bot_ids=left))
        self._again &= kept
        self._alone &= kept

    def _leave(self, batch: Batch) -> None:
        if batch.lane is None:
            self._busy[batch.group] -= 1
        else:
            self._serving.discard(batch.lane)

    def _at_home(self, bot_id: int) -> dict[str, dict[int, float]]:
        return self._waiting[bot_id % self._workers]

    def _waits(self, bot_id: int) -> bool:
        at_home = list(self._at_home(bot_id).values())  # copied: another thread asks
        return bot_id in self._lane or any(bot_id in bots for bots in at_home)

    def _lane_is_first(self, worker: int) -> bool:
        if self._sealed:  # their bots are held up by one that is still to be found
            return True
        others = (next(iter(bots.values())) for bots in self._waiting[worker].values() if bots)
        return bool(self._lane) and next(iter(self._lane.values()))[1] < min(others, default=float("inf"))

    def _take_from_lane(self, worker: int) -> Batch | None:
        if worker < self._first_of_lane:
            return None
        if self._sealed:
            batch = replace(self._sealed.popleft(), lane=worker)
            self._again.difference_update(batch.bot_ids)  # their rows are read only now
            return batch
        if not self._lane:
            return None
        bot_id = next(iter(self._lane))
        group, _ = self._lane.pop(bot_id)
        return Batch((bot_id,), group, sealed=True, lane=worker)

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
