"""Who gives a command."""

import getpass
import os

from jobs.desk.actor import Actor


def actor() -> Actor:
    """Return the account that gave the command, for the audit log. It has the file: it may see every bot."""
    try:
        return Actor(f"jobs:{getpass.getuser()}")
    except (KeyError, OSError):  # no such account, as in a container that runs under a bare number
        return Actor(f"jobs:{os.getuid() if hasattr(os, 'getuid') else '?'}")
