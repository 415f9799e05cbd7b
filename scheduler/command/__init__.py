"""The `scheduler` command: the service, in the foreground, and what people ask of a whole installation."""

from scheduler.command.verbs import main

__all__ = ["main"]
