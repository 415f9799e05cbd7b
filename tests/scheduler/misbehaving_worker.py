"""A worker whose bots do what their description says. Run as a script, like `scheduler.crew.child`."""

import os
import sys
import time

from jobs.bar.firing import Outcome
from persistence import bots
from scheduler.crew.child import main

GROWN = []


def run(bot_ids, rt):
    """Touch the bots' heartbeats; misbehave where the description asks for it."""
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


MISDEEDS = {
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
