"""Another process with another hash seed, in which a state is stepped and from which it comes back.

Run as a script it is that process: lines of JSON in, lines of JSON out.
"""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


class OtherProcess:
    """Steps the states of one case elsewhere. Records come back as text and are read as literals."""

    def __init__(self, case, hash_seed="4242"):
        self._child = subprocess.Popen(
            [sys.executable, str(HERE / "exact_process.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE.parents[1],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(HERE.parents[1])},
        )
        self._ask({"origin": case.origin})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._child.stdin.close()
        self._child.wait(10)
        self._child.stdout.close()

    def step(self, state, row, records):
        bars = [None if bar is None else [getattr(bar, name) for name in bar.__slots__] for bar in row]
        answer = self._ask({"state": state.hex(), "row": bars})
        records += ast.literal_eval(answer["records"])
        return _Elsewhere(bytes.fromhex(answer["state"]), answer["step"])

    def _ask(self, question):
        self._child.stdin.write(json.dumps(question) + "\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline() or "{}")
        if "error" in answer or not answer:
            raise AssertionError(answer.get("error", "the other process died"))
        return answer


class _Elsewhere:
    """What a step elsewhere came to: the state, and all else as text."""

    def __init__(self, state, text):
        self.state = state
        self.text = text


def step_text(step):
    """Return all of a step but its state, for comparison across processes."""
    return repr((step.orders, step.trades, step.cash, step.value, step.positions))


def _serve():
    sys.path[:0] = [str(HERE)]
    from exact_record import recording

    from strategies.engine import Bar

    case = engine = None
    for line in sys.stdin:
        question = json.loads(line)
        if "origin" in question:
            module, function, arguments = question["origin"]
            made = getattr(importlib.import_module(module), function)(*arguments)
            case = made[0] if isinstance(made, tuple) else made
            engine = case.engine()
            answer = {"ready": case.name}
        else:
            row = [None if bar is None else Bar(*bar) for bar in question["row"]]
            with recording() as records:
                step = engine.step(bytes.fromhex(question["state"]), row)
            answer = {"state": step.state.hex(), "records": repr(records), "step": step_text(step)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
