"""One service schedules: it holds a lease in the database, under an epoch that fences what steps write.

| state | `fence()` | leaves it when |
|---|---|---|
| standby | None | the lease is free, over or its own: leading, under a higher epoch |
| leading | the epoch | its deadline passes or a worker was refused: in doubt |
| in doubt | None | the database confirms the lease: leading; another one has it: standby |

The holder renews at a third of the lease's time; a standby asks twice a second.

**Two clocks that are never compared.** The row says until when the lease is held by the database's clock, the
holder keeps a deadline by its own monotonic one. What makes the second end before the first is the order
of steps: the deadline counts from a moment taken before the renewal was sent, the row's from when the
database got it, which is later. A margin is for clocks that run at different speeds. Counted from the
answer, the belief would outlast the lease by the answer's way back. The deadline is moved after the commit
and not before, so a commit whose answer was lost gives nobody a belief.

**Why an old leader cannot write.** The deadline only keeps it from trying. It can be stopped (SIGSTOP) after
its look at the deadline, and a suspended machine wakes up with a monotonic clock that did not move. So every
transaction of a step begins by locking the lease's row under its own epoch. A takeover has to change that
row's key: it waits for those that were begun under the old epoch, and those that begin later find no row. A
renewal leaves the key alone and waits for nobody. What the loop itself writes (jobs, statuses, charges)
begins with the same lock, so an error is counted by one of two leaders. Only the rows of the run and of the
lease are written without it: they are the writer's own.

**Lost without a goodbye.** A leader behind a dead route keeps that lock for as long as its session lives, and
the server may wait for the rest of its message for ever. So a standby that finds the lease over first ends
the sessions that carry the name of the holder's run (`leases.end_sessions`), and takes the row then.

On SQLite the process lock file has decided already who runs: the lease is taken once, for its epoch, so that
a worker that outlived a killed service can write no more.

| the process dies ... | what the others see |
|---|---|
| while it leads | the lease runs out after its time, the next acquires it with a higher epoch |
| between acquiring and knowing it | the same; or it acquires its own again under a still higher epoch |
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy import Connection

from ops.health import LOOP_FRESH_S
from ops.pulse import Pulse
from persistence import leases
from persistence.database import Database
from persistence.database_errors import DatabaseUnavailable, LeaseLost
from persistence.leases import Fence, Lease

STANDBY_S: Final = 0.5  # between two questions of a standby
BEAT_S: Final = 1.0  # the longest wait without a beat
MARGIN: Final = 0.25  # share of the lease's time that the holder gives up early

log = structlog.get_logger(__name__)


class Leadership:
    def __init__(
        self,
        database: Database,
        *,
        name: str,
        holder: str,
        ttl_s: float,
        monotonic: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.pulse = Pulse("lease", fatal_s=2 * LOOP_FRESH_S)
        self.changed = changed  # called by the lease's thread when leading begins or ends
        self._database = database
        self._holder = holder  # this run, so a service that was restarted is another holder
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._alone = database.dialect == "sqlite"
        # Written by the lease's thread and read by others. A lease of a new epoch is never seen with an old
        # deadline: the deadline was set to 0 when the lease before was lost.
        self._lease: Lease | None = None
        self._until = 0.0  # the deadline (monotonic s); `doubt` sets it to 0 from the loop's thread
        self.refused = ""  # why the last attempt failed, in the database's words; read by health
        self._stop = threading.Event()
        self._asked = threading.Event()  # wakes the lease's thread
        self._thread = threading.Thread(target=self._live, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.pulse.begin(self._thread)

    def fence(self) -> Fence | None:
        """Return what writes must carry, or None while this service must not act."""
        lease = self._lease
        if lease is None or self._monotonic() >= self._until:
            return None
        return Fence(lease.name, lease.epoch)

    def doubt(self) -> None:
        """Act no more until the database has confirmed the lease: a worker was refused under it."""
        self._until = 0.0
        self._asked.set()

    def stop(self) -> None:
        """End renewing, and let a standby take over at once."""
        self.pulse.end()
        self._stop.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join(10.0)
        lease, self._lease = self._lease, None  # `fence` says None from here on, before others may lead
        if lease is not None:
            try:
                with self._database.write() as connection:
                    leases.release(connection, lease)
            except DatabaseUnavailable:
                log.warning("lease not released, it runs out by itself", seconds=self._ttl_s)

    def attempt(self) -> None:
        """Renew the lease, or try to acquire it."""
        begun = self._monotonic()  # before anything is sent: the deadline counts from here
        before = self._lease
        try:
            with self._database.write() as connection:
                self._lease = self._next(connection)
        except LeaseLost:
            log.warning("lease lost: another service leads", lease=self.name)
            self._lease = None
        except DatabaseUnavailable as exc:
            # The belief in the present lease ends by itself, at its deadline.
            log.warning("lease not renewed", why=str(exc))
            self.refused = f"the lease: {exc}"
            return
        self.refused = ""
        if self._lease is None:
            self._until = 0.0
        else:
            self._until = float("inf") if self._alone else begun + self._ttl_s * (1 - MARGIN)
        if (before is None) != (self._lease is None):
            self.changed()

    def _next(self, connection: Connection) -> Lease | None:
        ttl_ms = int(self._ttl_s * 1000)
        if self._lease is not None:
            return leases.renew(connection, self._lease, ttl_ms)
        # What a lost leader's sessions have locked, the row itself among it, nobody else would let go.
        ended = 0 if self._alone else leases.end_sessions(connection, self.name, self._holder)
        if ended:
            log.warning("sessions of a leader that is lost were ended", lease=self.name, sessions=ended)
        found = leases.acquire(connection, self.name, self._holder, ttl_ms, take=self._alone)
        if found is not None:
            log.info("leading", lease=self.name, epoch=found.epoch)
        return found

    def _live(self) -> None:
        while not self._stop.is_set():
            if not (self._alone and self._until == float("inf")):  # once had, it stays on SQLite
                try:
                    self.attempt()
                except Exception:  # without this thread nobody would ever lead again
                    log.exception("lease not looked at, trying again")
            standing_by = STANDBY_S if self._lease is None else self._ttl_s / 3
            self._rest(min(standing_by, self._ttl_s / 3))

    def _rest(self, seconds: float) -> None:
        """Wait until it is time to ask again, or somebody says that it is."""
        end = time.monotonic() + seconds
        asked = False
        while not asked and (left := end - time.monotonic()) > 0:
            self.pulse.beat()
            asked = self._asked.wait(min(left, BEAT_S))
        self._asked.clear()
        self.pulse.beat()
