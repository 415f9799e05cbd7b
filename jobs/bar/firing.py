"""What the scheduler fires at a bar's close: read the world, decide, commit. In that order.

States of a bar of a bot: due (closed, open time behind the cursor) -> committed. There is nothing
in between that anybody can see, so there is nothing to repair. The cursor is the retry queue: a bar that
failed, was lost or was never fired is simply still due.

No other order is right. Deciding before all is read would let a step depend on when it ran; a transaction
that is open while an exchange is asked or a strategy runs would hold locks for as long as those please;
a cursor that is committed before what the bar did loses the bar, one that is committed after it does the bar
twice. So all of it is one transaction, and it is the only one that moves a cursor.

A batch is committed in slices of about 50 ms of deciding, not when the last of it is done: a bot that takes
long delays those behind it in this batch, once, and nobody who was decided before it. Slices are transactions
like batches: no bot is in two of them, and what a death takes with it is only smaller.

| the process dies ... | what is in the database | what the next run does |
|---|---|---|
| while rows are read, or bars fetched | nothing new | the same again |
| after bars were recorded | the bars | reads them instead of fetching; the same decisions |
| while an engine decides | nothing new: decisions live in memory | decides the same again: a step is pure |
| inside the commit | nothing new, the transaction is gone | the same again |
| after the commit, before the answer | all of it | the cursor is ahead: the bar is not due any more |
| before a failure is recorded | the bars before that one | fails the same way again and records it |

The commit is guarded by the epoch of the lease, the revision of the bot's row and the version of its state.
If the bot was moved, paused or edited since it was read, this work is void and nothing of it is written:
so the same bot may be fired twice, late or by two services, and one of them wins. Failures are charged
after the commit, because the bars before the one that failed end a row of failures.

Paper bots send nothing, Backtrader's own broker fills their orders inside the step.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jobs.bar.charges import charge
from jobs.bar.decisions import Decision, decide
from jobs.bar.due import Batch, read_batches
from jobs.bar.failures import Failure, FailureKind
from jobs.bar.runtime import Runtime, current
from persistence import bots
from persistence.database_errors import DatabaseUnavailable, LeaseLost
from persistence.ledger.advance import Advance
from persistence.ledger.steps import save_steps
from persistence.rows import Bot


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one bot: `bars` committed; `behind` if more closed bars wait already.

    `retry_at_ms` is when it is worth firing again before the next bar's close, if at all: after a
    failure, or when the source has not published the due bar yet. A bot that did not run (paused,
    stopped, waiting after a failure, gone) has no outcome.
    `unbuilt` names the engine of a bot that did not run because it has to be handed out alone, `engine`
    the one that was built for it, or tried to be. `took_ms` is what deciding took.
    """

    bot_id: int
    bars: int
    behind: bool = False
    failure: Failure | None = None
    retry_at_ms: int | None = None
    unbuilt: str | None = None
    engine: str | None = field(default=None, compare=False)
    took_ms: float = field(default=0.0, compare=False)


def run_bar(bot_id: int) -> None:
    """Run the due bars of one bot. This name is what the job store holds; a test pins it."""
    run_bars((bot_id,), current())


def run_bars(bot_ids: Sequence[int], rt: Runtime) -> tuple[Outcome, ...]:
    """Run the due bars of a batch. One bot's failure takes only itself out.

    Raises DatabaseUnavailable (and its kinds) or LeaseLost for the whole batch; firing it again is
    right in all cases, because the cursors say what was committed.
    """
    outcomes: list[Outcome] = []
    for batch in read_batches(bot_ids, rt):
        engines = {bot.id: name for bot, name in batch.built}
        ran = [*_idle(batch, rt), *_decided(batch, rt)]
        outcomes += [replace(outcome, engine=engines.get(outcome.bot_id)) for outcome in ran]
        outcomes += [Outcome(bot.id, 0, unbuilt=name) for bot, name in batch.unbuilt]
    return tuple(outcomes)


def _idle(batch: Batch, rt: Runtime) -> list[Outcome]:
    """Charge the bots that cannot run, and write that those without a bar were looked at."""
    charged = charge(batch.failed, rt.database, rt.settings.service, rt.clock.now_ms(), rt.fence)
    idle = [Outcome(due.bot.id, 0, retry_at_ms=due.retry_at_ms) for due in batch.due if not due.bars]
    if idle:  # a bot that has committed a bar has shown with it that it lives
        with rt.database.write(rt.fence) as connection:
            bots.beat(connection, [outcome.bot_id for outcome in idle], now_ms=rt.clock.now_ms())
    return [*idle, *(_failed(bot, charged) for bot, _ in batch.failed)]


def _decided(batch: Batch, rt: Runtime) -> Iterator[Outcome]:
    """Decide bot by bot, and commit whenever a slice of time is over: nobody waits for who comes behind."""
    decisions: list[Decision] = []
    began = time.perf_counter()
    for due in batch.due:
        if due.bars:
            rt.watch(due.bot.id)  # from here on what happens to this process is this bot's doing
            decisions.append(decide(due, rt))
        if time.perf_counter() - began >= rt.slice_s:
            yield from _settled(decisions, rt)
            decisions = []
            began = time.perf_counter()
    yield from _settled(decisions, rt)


def _settled(decisions: Sequence[Decision], rt: Runtime) -> Iterator[Outcome]:
    """Commit what a slice has decided, then charge the failures of its bots."""
    rt.watch(None)
    advances = [decision.advance for decision in decisions if decision.advance is not None]
    saved, unsaved = _commit(advances, rt)
    failures = list(_failures(decisions, saved, unsaved))
    charged = charge(failures, rt.database, rt.settings.service, rt.clock.now_ms(), rt.fence)
    for decision in decisions:
        yield replace(_outcome(decision, saved, charged), took_ms=round(decision.took_ms, 3))


def _commit(advances: Sequence[Advance], rt: Runtime) -> tuple[frozenset[int], dict[int, Failure]]:
    """Commit all advances in one transaction; return who moved, and whose advance cannot be written.

    An advance that the database refuses (a step that has no place in the ledger) is found by halving the
    batch: the others are committed. A bot in neither answer was moved by somebody else.
    """
    if not advances:
        return frozenset(), {}
    try:
        with rt.database.write() as connection:
            saved = save_steps(connection, advances, now_ms=rt.clock.now_ms(), fence=rt.fence)
    except (DatabaseUnavailable, LeaseLost):
        raise
    except Exception as exc:  # noqa: BLE001 - whatever one bot's rows are refused for must not stop the others
        if len(advances) == 1:
            rt.engines.forget(advances[0].bot_id)
            message = f"its step cannot be written: {type(exc).__name__}: {exc}"
            return frozenset(), {advances[0].bot_id: Failure(FailureKind.STRATEGY, message)}
        half = len(advances) // 2
        first, second = _commit(advances[:half], rt), _commit(advances[half:], rt)
        return first[0] | second[0], first[1] | second[1]
    for advance in advances:  # after the commit: what is kept warm is a committed version, or nothing
        if advance.bot_id in saved:
            rt.engines.keep(advance.bot_id, advance.version, advance.steps[-1].step.state)
        else:
            rt.engines.forget(advance.bot_id)
    return saved, {}


def _failures(
    decisions: Sequence[Decision], saved: frozenset[int], unsaved: Mapping[int, Failure]
) -> Iterator[tuple[Bot, Failure]]:
    for decision in decisions:
        bot = decision.due.bot
        failure = unsaved.get(bot.id, decision.failure)
        moved = decision.advance is not None and bot.id not in saved and bot.id not in unsaved
        if failure is not None and not moved:  # what a step on a former row did is void with it
            # The bars that were committed before the one that failed have ended its row of failures.
            yield (replace(bot, error_count=0) if bot.id in saved else bot), failure


def _outcome(decision: Decision, saved: frozenset[int], charged: Mapping[int, Failure]) -> Outcome:
    due, bot_id = decision.due, decision.due.bot.id
    bars = decision.bars if bot_id in saved else 0
    if bot_id in charged:
        return replace(_failed(due.bot, charged), bars=bars)
    if bot_id not in saved:
        # Moved, edited or paused by somebody else: fired again, it is read again.
        return Outcome(bot_id, 0, behind=True)
    if bars < len(due.bars):  # its time was over
        return Outcome(bot_id, bars, behind=True)
    return Outcome(bot_id, bars, due.behind, retry_at_ms=due.retry_at_ms)


def _failed(bot: Bot, charged: Mapping[int, Failure]) -> Outcome:
    """Return the outcome of a failure; one that was not charged was of a row that is another by now."""
    failure = charged.get(bot.id)
    if failure is None:
        return Outcome(bot.id, 0, behind=True)
    return Outcome(bot.id, 0, failure=failure, retry_at_ms=failure.retry_at_ms)
