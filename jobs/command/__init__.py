"""The `jobs` command: bots in the database, with or without a running service.

It starts in a fraction of a second because nothing here imports SQLAlchemy, pandas, ccxt,
Backtrader or pydantic, except `add` and `validate`, which do so when they run.
"""

from jobs.command.program import main

__all__ = ["main"]
