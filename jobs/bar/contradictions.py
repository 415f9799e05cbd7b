"""What cannot be: a state, a cursor and steps that no run of ours leaves behind together.

A bar's transaction moves all three (`persistence.ledger.steps`), so where they contradict one another
somebody has restored a part of a backup or edited a row. Without a word such a bot would be silent until the
clock has reached its cursor, or would write its ledger a second time over the first.

On PostgreSQL two statements see two moments, and another worker may commit a bar in between. So what looks
impossible is believed only if the state is the same before and after the steps were looked at.
"""

from collections.abc import Sequence
from typing import Final

from persistence.ledger.advance import Loaded
from persistence.ledger.history import newest_steps
from persistence.ledger.steps import load
from persistence.transaction import Transaction, iso

# A clock that was set back by less is waited for: the cursor was right when it was written.
CLOCK_SLACK_MS: Final = 24 * 3_600_000
RESTORE: Final = "restore bot_states and bot_steps from one backup, or remove the bot and add it again"


def contradictions(transaction: Transaction, loaded: Sequence[Loaded], now_ms: int) -> dict[int, str]:
    """Return bot id -> what is impossible about where it stands, and what mends it."""
    if not loaded:
        return {}
    steps = newest_steps(transaction, [found.bot.id for found in loaded])
    seen = {found.bot.id: found for found in loaded}
    whys = {bot_id: why for bot_id, found in seen.items() if (why := _why(found, steps.get(bot_id), now_ms))}
    again = load(transaction, list(whys)) if whys else ()
    return {now.bot.id: whys[now.bot.id] for now in again if now.version == seen[now.bot.id].version}


def _why(found: Loaded, newest_step: int | None, now_ms: int) -> str | None:
    if not found.version or found.last_bar is None:
        steps = "" if newest_step is None else f"it has steps up to bar {_at(newest_step)} and no state"
        return f"{steps}; {RESTORE}" if steps else None
    where = f"its state, version {found.version}, stands at bar {_at(found.last_bar)}"
    if found.last_bar > now_ms + CLOCK_SLACK_MS:
        return f"{where}, and it is {_at(now_ms)}: set the clock right, or {RESTORE}"
    if newest_step is None or newest_step < found.last_bar:
        steps = "it has no step" if newest_step is None else f"its steps end at bar {_at(newest_step)}"
        return f"{where}, and {steps}; {RESTORE}"
    if newest_step > found.last_bar:
        return (
            f"{where}, and its steps reach to bar {_at(newest_step)}: an older state was restored; {RESTORE}"
        )
    return None


def _at(moment: int) -> str:
    try:
        return iso(moment)
    except OverflowError:
        return f"{moment} ms"
