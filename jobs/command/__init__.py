"""The `jobs` command: the terminal's skin over the desk. It parses, calls `jobs.desk`, and shows.

It starts in a fraction of a second because nothing here imports SQLAlchemy, pandas, ccxt,
Backtrader or pydantic, except `add`, `edit` and `validate`, which do so when they run.
"""

from jobs.command.program import main

__all__ = ["main"]
