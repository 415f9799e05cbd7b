"""What the scheduler fires at a bar's close: read the world, decide, commit. In that order.

States of a bar of a bot: due (closed, open time behind the cursor) -> committed. There is nothing
in between that anybody can see, so there is nothing to repair. The cursor is the retry queue: a bar that
failed, was lost or was never fired is simply still due.

No other order is right. Deciding before all is read would let a step depend on when it ran; a transaction
that is open while an exchange is asked or a strategy runs would hold locks for as long as those please;
a cursor that is committed before what the bar did loses the bar, one that is committed after it does the bar
twice. So all of it is one transaction, and it is the only one that moves a cursor.

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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jobs.bar.charges import charge
from jobs.bar.decisions import Decision, decide
from jobs.bar.due import read_batch
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
    """

    bot_id: int
    bars: int
    behind: bool = False
    failure: Failure | None = None
    retry_at_ms: int | None = None


def run_bar(bot_id: int) -> None:
    """Run the due bars of one bot. This name is what the job store holds; a test pins it."""
    run_bars((bot_id,), current())


def run_bars(bot_ids: Sequence[int], rt: Runtime) -> tuple[Outcome, ...]:
    """Run the due bars of a batch. One bot's failure takes only itself out.

    Raises DatabaseUnavailable (and its kinds) or LeaseLost for the whole batch; firing it again is
    right in all cases, because the cursors say what was committed.
    """
    batch = read_batch(bot_ids, rt)
    decisions = []
    for due in batch.due:
        if due.bars:
            rt.watch(due.bot.id)  # from here on what happens to this process is this bot's doing
            decisions.append(decide(due, rt))
    rt.watch(None)
    advances = [decision.advance for decision in decisions if decision.advance is not None]
    saved, unsaved = _commit(advances, rt)
    failures = [*batch.failed, *_failures(decisions, saved, unsaved)]
    charged = charge(failures, rt.database, rt.settings.service, rt.clock.now_ms(), rt.fence)
    idle = [Outcome(due.bot.id, 0, retry_at_ms=due.retry_at_ms) for due in batch.due if not due.bars]
    if idle:  # a bot that has committed a bar has shown with it that it lives
        with rt.database.write(rt.fence) as connection:
            bots.beat(connection, [outcome.bot_id for outcome in idle], now_ms=rt.clock.now_ms())
    refused = (_failed(bot.id, charged[bot.id]) for bot, _ in batch.failed)
    return (*idle, *refused, *(_outcome(decision, saved, charged) for decision in decisions))


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
        if failure is not None:
            # The bars that were committed before the one that failed have ended its row of failures.
            yield (replace(bot, error_count=0) if bot.id in saved else bot), failure


def _outcome(decision: Decision, saved: frozenset[int], charged: dict[int, Failure]) -> Outcome:
    due = decision.due
    if due.bot.id in charged:
        failed = _failed(due.bot.id, charged[due.bot.id])
        bars = len(decision.advance.steps) if decision.advance and due.bot.id in saved else 0
        return replace(failed, bars=bars)
    if due.bot.id not in saved:
        # Moved, edited or paused by somebody else: fired again, it is read again.
        return Outcome(due.bot.id, 0, behind=True)
    return Outcome(due.bot.id, len(due.bars), due.behind, retry_at_ms=due.retry_at_ms)


def _failed(bot_id: int, failure: Failure) -> Outcome:
    return Outcome(bot_id, 0, failure=failure, retry_at_ms=failure.retry_at_ms)
