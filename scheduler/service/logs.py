"""Log lines: JSON for machines, text on a terminal; moments in UTC, one event a line, on stderr."""

import logging
import sys
from typing import Final, Literal

import structlog
from structlog.types import EventDict

from strategies.plain_text import visible
from strategies.secrecy import HIDDEN, is_secret, masked

QUIET: Final = ("apscheduler", "alembic", "sqlalchemy")


def _without_secrets(logger: object, method: str, event: EventDict) -> EventDict:
    """Hide what errors of drivers and strategies say of secrets; JSON escapes the rest by itself."""
    del logger, method
    return {key: HIDDEN if is_secret(key) else masked(value) for key, value in event.items()}


def _harmless(logger: object, method: str, event: EventDict) -> EventDict:
    """Do so for a terminal, whose cursor and order of letters no text from a row may change."""
    told = _without_secrets(logger, method, event)
    return {
        key: visible(value, keep="\n") if isinstance(value, str) else value for key, value in told.items()
    }


def set_up_logs(form: Literal["auto", "json", "text"]) -> None:
    """Send what this process logs to stderr. Called once, by the process's own first function."""
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if as_text
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            _harmless if as_text else _without_secrets,
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
