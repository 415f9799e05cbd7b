"""A crew over real workers and plug-in files, fired every second, and how late its commits are."""

import sqlite3
import threading
import time
from contextlib import contextmanager

from scheduler_stage import SetClock, bot_config, settings_for

from persistence import bots
from scheduler.crew.alarm import Alarm
from scheduler.crew.crew import Crew

FILES = {
    "quick": "class Code(bt.Strategy):\n    pass\n",
    "sleeper": (
        "class Code(bt.Strategy):\n    params = (('s', 1.0),)\n"
        "    def next(self):\n        time.sleep(self.p.s)\n"
    ),
    "holder": (  # one regular expression holds the interpreter's lock for as long as it takes
        "class Code(bt.Strategy):\n    def __init__(self):\n        re.match('(a+)+$', 'a' * 40 + 'b')\n"
    ),
    "importer": ("re.match('(a+)+$', 'a' * 40 + 'b')\nclass Code(bt.Strategy):\n    pass\n"),
    "builder": "class Code(bt.Strategy):\n    def __init__(self):\n        time.sleep(1000)\n",
}


def write_plugins(folder):
    for name, code in FILES.items():
        (folder / f"{name}.py").write_text(f"import re, time\nimport backtrader as bt\n{code}")


def add(database, kind, **parameters):
    strategy = {"type": f"{kind}:Code", "parameters": parameters}
    with database.write() as connection:
        text = bot_config(kind, strategy=strategy)
        return bots.add_bot(connection, config=text, now_ms=int(time.time() * 1000))


def cursors(database):
    """Ask by plain SQL, apart from the program's own reading."""
    with sqlite3.connect(database.url.removeprefix("sqlite:///"), timeout=10) as connection:
        return dict(connection.execute("SELECT bot_id, last_bar FROM bot_states"))


@contextmanager
def crew_of(database, folder, **workers):
    settings = settings_for(
        database.url,
        workers={"count": 2, **workers},
        strategies={"plugins": (folder,)},
        markets={"settle_ms": 0},
    )
    crew = Crew(settings, SetClock())
    crew.start()
    crew.lead(None, leads=True)
    try:
        yield crew
    finally:
        crew.stop(1.0)


def settle_times(database, crew, bot_ids, watched, seconds):
    """Fire all bots every second; return the s from a bar's close to its commit, for watched bots."""
    over = threading.Event()

    def fire():
        while not over.wait(1.0 - time.time() % 1.0 + 0.005):
            crew.fire([Alarm(bot_id, "generated", 0) for bot_id in bot_ids])

    thread = threading.Thread(target=fire, daemon=True)
    thread.start()
    seen = {}
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = time.time()
        for bot_id, bar in cursors(database).items():
            if bot_id in watched and seen.get(bot_id) != bar:
                if bot_id in seen:
                    found.append(now - bar / 1000 - 1.0)
                seen[bot_id] = bar
        time.sleep(0.01)
    over.set()
    thread.join()
    return found
