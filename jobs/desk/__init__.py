"""What people do to bots, whichever door they came through: terminal, page, API, chat.

A function here takes an open database, an `Actor` and values, and returns values. It prints nothing, reads
no arguments, no environment and no clock, and opens no database. Doors parse, call it and show what it
returned; a rule that stood in a door would be missing in all the others.

Every function that changes something goes through the same steps, in this order:

1. **Check**, outside of any transaction. To check a configuration builds its engine, which takes as long as
   its author pleases; the service must not wait for a lock meanwhile.
2. **Ask** `may`, in the transaction that acts and with the row locked: a bot that changes hands is not
   moved by its old owner. Rows are locked in the order of ids, so two wishes for many bots do not
   deadlock. Somebody else's bot is answered as one that does not exist.
3. **Write** one row per bot. The triggers of `trading_bots` write the audit line, raise the revision and
   wake the service in the same transaction, so none of them can be forgotten here.
4. **Return** what was done. What takes effect and when is the service's business: the next boundary.

A check may be stale when its row is written, so `edit` writes only onto the revision that it read, which
also is the one whose owner was asked for: a bot that changes hands gets a new revision.

| the process dies ... | the next one sees |
|---|---|
| before the commit | nothing happened; the same wish may be given again |
| after the commit, before the answer | it is done and audited; the same wish changes nothing |
| between two transactions of a long list | the first hundreds are done, the same wish does the rest |

`add`, all or none, is the one wish that does more when it is repeated: a bot has no key but its id.

Looking and moving load neither SQLAlchemy nor pydantic nor Backtrader, because `jobs list` has to be there at
once. What has to check (`jobs.desk.adding`, `.editing`, `.checking`) is imported by those who need it;
so is `.glance`, which is for screens.
"""

from jobs.desk.actor import Actor, OpenDatabase, may
from jobs.desk.looking import history, list_bots, show, trades
from jobs.desk.moving import Moved, Result, pause, remove, restart, resume, start, stop

__all__ = [
    "Actor",
    "Moved",
    "OpenDatabase",
    "Result",
    "history",
    "list_bots",
    "may",
    "pause",
    "remove",
    "restart",
    "resume",
    "show",
    "start",
    "stop",
    "trades",
]
