"""Log lines: JSON for machines, text on a terminal; moments in UTC, one event a line, on stderr."""

import logging
import sys
from typing import Final, Literal

import structlog

QUIET: Final = ("apscheduler", "alembic", "sqlalchemy")


def set_up_logs(form: Literal["auto", "json", "text"]) -> None:
    """Send what this process logs to stderr. Called once, by the process's own first function."""
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *(() if as_text else (structlog.processors.format_exc_info,)),
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
