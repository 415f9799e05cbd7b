"""The backlog over random sequences (R2.2, R2.3): a bot is in one batch, never lost, never held for ever.

The model knows nothing of queues. It remembers for every bot whether a fire is owed to it, and it holds the
batches that were taken: what is handed out has to be owed or running nowhere else.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scheduler.crew.backlog import Backlog

BOTS = 7
GROUPS = ("generated", "binance", "kraken")
bot_ids = st.integers(1, BOTS)


class Handing(RuleBasedStateMachine):
    """Fires, hands out, ends, halves, holds, lets go, parts, trusts and forgets in any order."""

    @initialize(workers=st.integers(1, 4), batch=st.integers(1, 4), per_group=st.integers(0, 2))
    def begin(self, workers, batch, per_group):
        self.backlog = Backlog(workers, batch, per_group)
        self.workers = workers
        self.now = 0.0
        self.taken = {}  # worker -> batch
        self.halves = []  # bots of batches that were given back in halves and not taken since
        self.owed = set()  # fired, and not handed out since
        self.held = set()
        self.alone = set()

    @rule(bots=st.sets(bot_ids, min_size=1), group=st.sampled_from(GROUPS))
    def fire(self, bots, group):
        self.backlog.add([(bot_id, group) for bot_id in sorted(bots)], self.now)
        self.owed |= bots

    @rule(after=st.sampled_from([0.0, 0.5, 2.0]))
    def take_all(self, after):
        """Every idle worker asks, as the crew does."""
        self.now += after
        for worker in range(self.workers):
            if worker not in self.taken:
                self.take(worker)

    def take(self, worker):
        batch = self.backlog.take(worker, self.now)
        if batch is None:
            return
        others = {bot_id for other in self.taken.values() for bot_id in other.bot_ids}
        bots = set(batch.bot_ids)
        assert len(bots) == len(batch.bot_ids)
        assert not bots & others, "a bot is in two batches"
        assert not bots & self.held, "a held bot is handed out"
        assert bots <= self.owed, "nobody asked for it"
        if len(bots) > 1 and not batch.sealed:
            assert not bots & self.alone, "a bot that has to run alone shares a batch"
        self.taken[worker] = batch
        self.owed -= bots

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def finish(self, data):
        batch = self._ended(data)
        self.backlog.finish(batch, self.now)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give_back(self, data):
        """The batch is lost, and nobody is to blame."""
        batch = self._ended(data)
        self.backlog.finish(batch, self.now)
        self.backlog.add([(bot_id, batch.group) for bot_id in batch.bot_ids], self.now)
        self.owed |= set(batch.bot_ids)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def halve(self, data):
        """The worker died, and nobody knows of whom."""
        batch = self._ended(data)
        self.backlog.halve(batch)
        self.owed |= set(batch.bot_ids)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def charge(self, data):
        batch = self._ended(data)
        guilty = data.draw(st.sampled_from(batch.bot_ids))
        self.backlog.hold(guilty)
        self.backlog.finish(batch, self.now)
        others = [bot_id for bot_id in batch.bot_ids if bot_id != guilty]
        self.backlog.add([(bot_id, batch.group) for bot_id in others], self.now)
        self.owed |= set(others)
        self.held.add(guilty)
        self.alone.add(guilty)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def let_go(self, data):
        bot_id = data.draw(st.sampled_from(sorted(self.held)))
        self.backlog.let_go(bot_id)
        self.held.discard(bot_id)
        self.owed.discard(bot_id)  # the charge says when it may run next

    @rule(bots=st.sets(bot_ids))
    def part(self, bots):
        self.backlog.part(bots)
        self.alone |= bots

    @rule(bots=st.sets(bot_ids))
    def trust(self, bots):
        self.backlog.trust(bots, self.now)
        self.alone -= bots

    @rule(kept=st.sets(bot_ids))
    def forget(self, kept):
        self.backlog.forget(kept)
        self.owed &= kept
        self.alone &= kept

    def _ended(self, data):
        worker = data.draw(st.sampled_from(sorted(self.taken)))
        return self.taken.pop(worker)

    @invariant()
    def who_is_busy_is_known_to_be(self):
        if not hasattr(self, "backlog"):
            return
        for bot_id in range(1, BOTS + 1):
            runs = any(bot_id in batch.bot_ids for batch in self.taken.values())
            known = self.backlog.has(bot_id)
            assert known == (runs or bot_id in self.held or bot_id in self.owed), bot_id

    def teardown(self):
        """Once all that runs has ended and all charges are written, everybody who is owed a run gets it."""
        if not hasattr(self, "backlog"):
            return
        for bot_id in sorted(self.held):
            self.backlog.let_go(bot_id)
            self.owed.discard(bot_id)
        self.held.clear()
        for _ in range(4 * BOTS):
            for batch in self.taken.values():
                self.backlog.finish(batch, self.now)
            self.taken.clear()
            self.take_all(2.0)
        assert not self.owed, "lost"
        for batch in self.taken.values():
            self.backlog.finish(batch, self.now)
        self.backlog.forget(())
        assert self.backlog.waiting == self.backlog.running == 0
        assert self.backlog.empty(), "something is left behind"


TestHanding = Handing.TestCase
TestHanding.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
