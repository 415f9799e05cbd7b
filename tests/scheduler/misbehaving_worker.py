"""A worker whose bots do what their description says. Run as a script, like `scheduler.crew.child`."""

import os
import resource
import sqlite3
import sys
import threading
import time

from jobs.bar.firing import Outcome
from persistence import bots
from scheduler.crew.child import main

GROWN = []


def run(bot_ids, rt):
    """Touch the bots' heartbeats; misbehave where the description asks for it."""
    DATABASE[:] = [rt.database.url.removeprefix("sqlite:///")]
    with rt.database.read() as connection:
        found = [bots.get_bot(connection, bot_id) for bot_id in bot_ids]
    print("a strategy prints what it likes", flush=True)
    for bot in found:
        rt.watch(bot.id)
        MISDEEDS.get(bot.description, lambda: None)()
    rt.watch(None)
    between(found)
    with rt.database.write() as connection:
        bots.beat(connection, list(bot_ids), now_ms=rt.clock.now_ms())
    return tuple(Outcome(bot.id, 1) for bot in found)


def hang():
    while True:
        pass


def grow():
    while True:
        GROWN.append(bytearray(b"x") * (1 << 24))
        time.sleep(0.01)


class OwnEnding(BaseException):
    """What a strategy may define and raise: no Exception."""


def raise_own():
    raise OwnEnding("of a strategy")


def start_threads():
    for _ in range(300):
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()


def lower_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))


def keep_write_lock():
    connection = sqlite3.connect(DATABASE[0], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    GROWN.append(connection)


def flood():
    line = "x" * 1000
    for _ in range(200_000):
        print(line)


DATABASE = []
MISDEEDS = {
    "own": raise_own,
    "threads": start_threads,
    "fork": os.fork,
    "limit": lower_limit,
    "folder": lambda: os.chdir("/"),
    "lock": keep_write_lock,
    "flood": flood,
    "say": lambda: print("hello\x1b[31m"),
    "hang": hang,
    "sleep": lambda: time.sleep(1000),
    "die": lambda: os.kill(os.getpid(), 9),
    "exit": lambda: os._exit(3),
    "raise": lambda: sys.exit(4),
    "grow": grow,
    "slow": lambda: time.sleep(0.5),
}


def between(found):
    """Die after the last bot's work, when nobody is at it."""
    if any(bot.description == "die between" for bot in found):
        os._exit(5)


if __name__ == "__main__":
    sys.exit(main(run))
