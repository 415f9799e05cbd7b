"""How to connect: settings that the service and the commands share. Imports no driver before it is needed.

A client that is lost without a goodbye (power, a route, SIGSTOP) leaves its session behind, with its locks.
What ends it on the server, by where the client was lost: between two statements of a transaction the idle
limit; in a statement its limit; where packets are not acknowledged the keepalives and the user timeout; in
the middle of a message, where the server waits and no other clock runs, the limit of a transaction
(PostgreSQL 17 and later). A takeover waits for none of them: it ends the sessions of the old leader by their
name (`session_name`).
"""

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

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
    # Of TCP only; on a unix socket they do nothing.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
    "timezone": "UTC",
}
LONGEST_TRANSACTION: Final = "60s"  # longer than any of ours but a migration, which lifts it
KNOWS_TRANSACTION_TIMEOUT: Final = 170_000
NAME: Final = "onebar"
LONGEST_NAME: Final = 63  # bytes that a server keeps of a session's name


def session_name(run: str) -> str:
    """Return what the sessions of a service's run are called on the server."""
    end = re.sub(r"[^!-~]", "?", run)  # a server writes a question mark for what is not ASCII
    return f"{NAME}:{end[-(LONGEST_NAME - len(NAME) - 1) :]}"


def session_named(url: str, run: str) -> str:
    """Return `url` with sessions that carry the name of a run; on SQLite there are no sessions to name."""
    if not url.startswith("postgresql"):
        return url
    place, _, query = url.partition("?")
    kept = [part for part in query.split("&") if part and not part.startswith("application_name=")]
    return f"{place}?{'&'.join([*kept, f'application_name={quote(session_name(run))}'])}"


def postgres_arguments(own_options: str = "", name: str = NAME) -> dict[str, Any]:
    """Return the arguments of a connection; `own_options` and `name` are those of the URL and win."""
    options = " ".join(f"-c {name}={value}" for name, value in SERVER_SETTINGS.items())
    return {
        "application_name": name,
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


def bound_transactions(connection: "psycopg.Connection[Any]") -> None:
    """Limit the time of a whole transaction where the server can."""
    if connection.info.server_version >= KNOWS_TRANSACTION_TIMEOUT:
        connection.execute(f"SET transaction_timeout = '{LONGEST_TRANSACTION}'")
        connection.commit()
