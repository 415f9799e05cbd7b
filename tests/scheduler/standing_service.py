"""A real service one of whose threads is made to block, or to raise, at one of its lines.

Run as a script: THREAD FUNCTION OFFSET (lines behind `def`) block|raise. The blow falls once, after the first
pass that succeeded, when the thread comes to that line.
"""

import sys
import threading
import time
from pathlib import Path

from jobs.settings import load_settings
from scheduler.service import daemon


class Blow:
    def __init__(self, thread, function, offset, how):
        self.thread, self.function, self.offset, self.how = thread, function, offset, how
        self.armed = False
        self.fallen = False

    def trace(self, frame, event, _):
        if event != "call" or not threading.current_thread().name.startswith(self.thread):
            return None
        code = frame.f_code
        ours = Path(code.co_filename).parent.name in {"service", "crew"}
        return self.line if ours and code.co_name == self.function else None

    def line(self, frame, event, _):
        there = event == "line" and frame.f_lineno - frame.f_code.co_firstlineno >= self.offset
        if there and self.armed and not self.fallen:
            self.fallen = True
            print("BLOW", file=sys.__stdout__, flush=True)
            if self.how == "raise":
                raise ArithmeticError("planted")
            time.sleep(1e6)
        return self.line


def main(thread, function, offset, how):
    blow = Blow(thread, function, int(offset), how)

    class Service(daemon.Service):
        def run(self, stop, *, resume=True):
            def arm():
                self.scheduler.first_pass.wait()
                time.sleep(2.0)
                blow.armed = True

            threading.Thread(target=arm, name="arm", daemon=True).start()
            return super().run(stop, resume=resume)

    daemon.Service = Service
    threading.settrace(blow.trace)
    if thread == "MainThread":
        sys.settrace(blow.trace)
    return daemon.run_service(load_settings())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
