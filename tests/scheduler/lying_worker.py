"""A worker whose bots make it say what is no answer: their description is what it says, byte for byte."""

import json
import os
import sys
import time

from persistence import bots
from persistence.database import open_database
from scheduler.crew.watch import Watch


def main():
    first = json.loads(sys.stdin.readline())
    watch = Watch(first["watch"])
    database = open_database(first["settings"]["database"]["url"])
    watch.beat()
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        watch.beat()
        ids = json.loads(line).get("run", [])
        with database.read() as connection:
            found = [bots.get_bot(connection, bot_id) for bot_id in ids]
        for bot in found:
            if bot.description:
                watch.write(bot.id)
                print(bot.description, flush=True)
                time.sleep(100)
        with database.write() as connection:
            bots.beat(connection, ids, now_ms=time.time_ns() // 1_000_000)
        print(json.dumps({"done": [[bot_id, 1, False, None, None] for bot_id in ids]}), flush=True)


if __name__ == "__main__":
    main()
