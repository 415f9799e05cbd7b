"""Words to systemd over the socket that it names: ready, alive, stopping. Elsewhere they go nowhere."""

import os
import socket
import sys
from typing import Final

ALIVE: Final = "WATCHDOG=1"
READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"


def notify(message: str) -> bool:
    """Send one message (sd_notify(3)); return whether somebody was there to hear it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or sys.platform == "win32":
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(1.0)
            channel.connect(address)
            channel.sendall(message.encode())
    except OSError:
        return False  # a supervisor that does not listen is no reason to stop trading
    return True


def watchdog_s() -> float | None:
    """Return how often the watchdog wants to hear from this process, or None if there is none."""
    asked = os.environ.get("WATCHDOG_USEC", "")
    if not asked.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(asked) / 2_000_000
