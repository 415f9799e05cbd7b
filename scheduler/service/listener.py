"""Hears edits of the bots table on PostgreSQL (LISTEN onebar_bots), so that they need not be polled.

It only says that something changed; the loop looks for itself. A notification that is lost, because
the connection was, costs a poll interval: after every new connection everything is looked at once.
"""

import threading
from collections.abc import Callable
from typing import Final

import structlog

from ops.pulse import Pulse
from persistence.connect import postgres_arguments

CHANNEL: Final = "onebar_bots"
PATIENCE_S: Final = 1.0
AGAIN_S: Final = 1.0

log = structlog.get_logger(__name__)


class Listener:
    def __init__(self, url: str, edited: Callable[[], None]) -> None:
        self.pulse = Pulse("listener", fatal_s=None)  # what it does not hear is polled
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._edited = edited
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, name="listener", daemon=True)

    def start(self) -> None:
        """Begin to listen; on SQLite there is nothing to hear, and the loop polls."""
        if self._url.startswith("postgresql://"):
            self._thread.start()
            self.pulse.begin(self._thread)

    def stop(self) -> None:
        self.pulse.end()
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S + 1.0)

    def _live(self) -> None:
        import psycopg

        while not self._stop.is_set():
            self.pulse.beat()
            try:
                self._listen()
            except (psycopg.Error, OSError) as exc:
                log.warning("edits are polled until the database is back", why=str(exc))
                self._stop.wait(AGAIN_S)
            except Exception:  # without this thread every edit would be as late as a poll, for ever
                log.exception("edits are polled until listening works again")
                self._stop.wait(AGAIN_S)

    def _listen(self) -> None:
        import psycopg

        with psycopg.connect(self._url, autocommit=True, **postgres_arguments()) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            self._edited()  # after LISTEN: what was edited while nobody listened is seen by this look
            while not self._stop.is_set():
                self.pulse.beat()
                for _ in connection.notifies(timeout=PATIENCE_S):
                    self._edited()
                    if self._stop.is_set():
                        break
                # A half-open connection never says anything: ask, and the system finds out that it is gone.
                connection.execute("SELECT 1")
