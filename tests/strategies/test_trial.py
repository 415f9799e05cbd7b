"""What would be refused on a bot's first bars is refused when it is added, with the line that is at fault."""

import json

import pytest

from strategies.assembly import check_bot
from strategies.faults import InvalidConfig
from strategies.registry import Registry

HEAD = "import backtrader as bt\nclass Try(bt.Strategy):\n"
REFUSED = {
    "a read before the first bar": (
        """    def next(self):
        if self.data.close[0] < self.data.close[-1]:
            self.buy()
""",
        "on bar 1: ",
        "if len(self) < n: return",
    ),
    "a read of the future": (
        """    def next(self):
        self.seen = self.data.close[1]
""",
        "on bar 1: ",
        "that has not closed",
    ),
    "a lock made on the fifth bar": (
        """    def next(self):
        if len(self) == 5:
            import threading
            self.guard = threading.Lock()
""",
        "on bar 5: strategy.guard: ",
        "cannot be carried",
    ),
}
ACCEPTED = {
    "waits for its bars": """    def next(self):
        if len(self) < 2:
            return
        if self.data.close[0] < self.data.close[-1]:
            self.buy()
""",
    "cannot bear made-up prices": """    def next(self):
        if self.data.close[0] < 30_000:
            raise ValueError('not bitcoin')
""",
}


def config(folder, source):
    (folder / "tried.py").write_text(HEAD + source)
    return json.dumps(
        {
            "id": "t",
            "name": "T",
            "symbol": "BTCUSDT",
            "broker": {"type": "paper", "trading_mode": "paper", "cash": 1_000.0},
            "strategy": {"type": "tried:Try", "parameters": {}},
            "data": {"data_source": "generated", "interval": "1m"},
        }
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_as_a_bot_is_refused_when_it_is_added(name, tmp_path):
    source, *fragments = REFUSED[name]
    with pytest.raises(InvalidConfig) as refused:
        check_bot(config(tmp_path, source), Registry([tmp_path]))
    (fault,) = refused.value.faults
    assert fault.path == "strategy"
    for fragment in ("tried:Try", *fragments):
        assert fragment in fault.found


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_can_run_is_accepted(name, tmp_path):
    check_bot(config(tmp_path, ACCEPTED[name]), Registry([tmp_path]))
