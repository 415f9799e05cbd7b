"""How to connect: settings that the service and the commands share. Imports no driver before it is needed."""

from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import psycopg

BUSY_TIMEOUT_MS: Final = 5_000
CONNECT_TIMEOUT_S: Final = 5
ANSWER_TIMEOUT_S: Final = 15.0  # longer than the server's own limits, which then speak first

PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    # NORMAL would lose the last commits on power loss: an order sent, its intent gone.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
)
# A stopped process must not keep its rows locked for longer than a standby waits before it takes over.
SERVER_SETTINGS: Final = {
    "statement_timeout": "10s",
    "lock_timeout": "3s",
    "idle_in_transaction_session_timeout": "5s",
    "timezone": "UTC",
}


def postgres_arguments(own_options: str = "") -> dict[str, Any]:
    """Return the arguments of a connection; `own_options` are those of the URL and win."""
    options = " ".join(f"-c {name}={value}" for name, value in SERVER_SETTINGS.items())
    return {
        "application_name": "onebar",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": int(ANSWER_TIMEOUT_S * 1_000),
        "target_session_attrs": "read-write",
        "options": f"{options} {own_options}".strip(),
    }


@cache
def bounded_connection_class(answer_timeout_s: float) -> "type[psycopg.Connection[Any]]":
    """Return psycopg's connection with a limit on every wait for an answer.

    A frozen server (SIGSTOP, a hung disk, a half-open route) acknowledges packets and answers nothing:
    neither keepalives nor `statement_timeout` end that wait. The connection is of no use afterwards.
    """
    import psycopg  # 0.27 s that SQLite does not need

    class BoundedConnection(psycopg.Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, timeout or answer_timeout_s)
            except psycopg.errors._WaitTimeout as exc:  # noqa: SLF001 -- what wait documents to raise
                self.pgconn.finish()
                raise psycopg.OperationalError(f"no answer within {answer_timeout_s} s") from exc

    return BoundedConnection
