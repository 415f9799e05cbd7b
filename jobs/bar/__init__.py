"""What the scheduler fires at a bar's close: `jobs.bar:run_bar` is the name that the job store holds."""

from jobs.bar.firing import run_bar

__all__ = ["run_bar"]
