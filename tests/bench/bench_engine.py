"""What a step of the engine costs beside plain Backtrader: ratios of one run on one core, in CPU time.

    .venv/bin/python tests/bench/bench_engine.py            # the table
    .venv/bin/python tests/bench/bench_engine.py --profile  # where the time of a warm step goes

Real candles come from the folder that ONEBAR_DATA names (default: shared/data beside the checkout).
Every figure is the median of several rounds, with the least and the greatest; what is compared is
measured in the same round, so that a slow moment of the machine hits both.
"""

import argparse
import cProfile
import gc
import os
import pstats
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import Final

HERE: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "exact")]

import backtrader as bt
from exact_bars import real_bars
from exact_run import Case, plain_cerebro

from strategies.engine import Engine, Feed

CANDLES: Final = "btc_usdt_5m_2021.csv"
FEEDS: Final = (Feed("BTC/USDT", "5m"),)
WINDOW: Final = 500  # bars that the usual alternative loads into a fresh Cerebro at every bar


class Bands(bt.Strategy):
    """The reference workload: four indicators, orders, an exit by range."""

    def __init__(self) -> None:
        self.rsi = bt.indicators.RSI(period=14)
        self.bands = bt.indicators.BollingerBands(period=20)
        self.volume = bt.indicators.SMA(self.data.volume, period=20)
        self.atr = bt.indicators.ATR(period=14)
        self.order: bt.Order | None = None
        self.stop_price = 0.0

    def notify_order(self, order: bt.Order) -> None:
        if not order.alive():
            self.order = None

    def next(self) -> None:
        if self.order is not None:
            return
        close = self.data.close[0]
        if not self.position:
            busy = self.data.volume[0] > self.volume[0]
            if self.rsi[0] < 38 and busy and close < self.bands.lines.mid[0]:
                self.order = self.buy(size=0.1)
                self.stop_price = close - 2 * self.atr[0]
        elif close < self.stop_price or close > self.bands.lines.mid[0]:
            self.order = self.close()


def configure(cerebro: bt.Cerebro) -> None:
    cerebro.broker.setcash(100_000)
    cerebro.broker.setcommission(commission=0.001)
    cerebro.addstrategy(Bands)


@dataclass(frozen=True)
class Round:
    """CPU seconds of one bar (or of one rebuild) in each way."""

    bar: float
    window: float
    warm: float
    cold: float
    build: float
    swapped: float
    caught_up: float


def _case(bars) -> Case:
    return Case("bench", configure, FEEDS, (bars,))


def _plain_seconds(bars, *, runonce: bool) -> float:
    cerebro = plain_cerebro(_case(bars))
    configure(cerebro)
    start = process_time()
    cerebro.run(runonce=runonce, preload=True, exactbars=0)
    return process_time() - start


def _window_seconds(bars) -> float:
    """Time what a bot without state does at each bar: build a Cerebro, load the last bars, run them all."""
    gc.collect()
    start = process_time()
    cerebro = plain_cerebro(_case(bars))
    configure(cerebro)
    cerebro.run(runonce=True)
    return process_time() - start


def measured(bars, states, steps: int) -> Round:
    """Measure one round. `states` are two states after the bars before `bars[-steps:]`."""
    ahead = bars[-steps:]
    gc.collect()
    # The difference of two lengths leaves out what building and starting cost.
    long, short = (_plain_seconds(bars[:count], runonce=False) for count in (2_500, 500))
    engine = Engine(configure, FEEDS)
    state = engine.step(states[0], (ahead[0],)).state

    start = process_time()
    for bar in ahead[1:]:
        state = engine.step(state, (bar,)).state
    warm = (process_time() - start) / (steps - 1)

    swapping = list(states)
    start = process_time()
    for bar in ahead:
        for number in (0, 1):
            swapping[number] = engine.step(swapping[number], (bar,)).state
    swapped = (process_time() - start) / (2 * steps)

    start = process_time()
    engine.catch_up(states[0], [(bar,) for bar in ahead])
    caught_up = (process_time() - start) / steps

    cold, build = _cold_seconds(states[0], ahead[0])
    window = min(_window_seconds(bars[-WINDOW:]) for _ in range(3))
    return Round((long - short) / 2_000, window, warm, cold, build, swapped, caught_up)


def _cold_seconds(state: bytes, bar, times: int = 30) -> tuple[float, float]:
    """Time each cold step by itself. What it leaves is freed outside, as what the fresh Cerebro leaves."""
    cold = build = 0.0
    for _ in range(times):
        gc.collect()
        start = process_time()
        engine = Engine(configure, FEEDS)
        built = process_time()
        engine.step(state, (bar,))
        cold += process_time() - start
        build += built - start
    return cold / times, build / times


def _spread(values) -> str:
    return f"{median(values):9.2f}   {min(values):8.2f} to {max(values):8.2f}"


def print_speed(bars, count: int) -> None:
    engine = Engine(configure, FEEDS)
    states = []
    for shift in (0, 7):
        rows = [(bar,) for bar in bars[shift : 3_000 - 400]]
        states.append(engine.catch_up(engine.initial(), rows)[-1].state)
    rounds = [measured(bars[:3_000], states, 400) for _ in range(count)]
    print(f"{count} rounds, {CANDLES}, CPU time; median, least to greatest")
    print("milliseconds")
    for name in ("bar", "window", "warm", "swapped", "caught_up", "cold", "build"):
        print(f"  {_NAMES[name]:58s} {_spread([1e3 * getattr(found, name) for found in rounds])}")
    print("ratios")
    for text, ratio in _RATIOS:
        print(f"  {text:58s} {_spread([ratio(found) for found in rounds])}")


_NAMES: Final = {
    "bar": "Backtrader's own bar in a continuous event-driven run",
    "window": f"fresh Cerebro over the last {WINDOW} bars, runonce=True",
    "warm": "warm step, dump included",
    "swapped": "step with another bot's state swapped in, dump included",
    "caught_up": "bar of catch_up, no dump",
    "cold": "cold step: build, load, step, dump",
    "build": "of which build",
}
_RATIOS: Final = (
    ("fresh Cerebro / warm step            (goal: at least 80)", lambda r: r.window / r.warm),
    ("warm step / Backtrader's bar         (goal: at most 2.5)", lambda r: r.warm / r.bar),
    ("fresh Cerebro / cold step", lambda r: r.window / r.cold),
    ("swap alone / Backtrader's bar        (goal: at most 2)", lambda r: (r.swapped - r.warm) / r.bar),
    ("bar of catch_up / Backtrader's bar", lambda r: r.caught_up / r.bar),
)


def print_sizes(bars) -> None:
    engine = Engine(configure, FEEDS)
    state, sizes = engine.initial(), {True: [], False: []}
    for number, bar in enumerate(bars[:3_000]):
        step = engine.step(state, (bar,))
        state = step.state
        if number >= 100:
            sizes[bool(step.positions)].append(len(state))
    for held, found in sizes.items():
        goal = "3,000 with one" if held else "2,000 flat"
        text = f"state in bytes, {'with a position' if held else 'flat'} ({len(found)} bars; goal: {goal})"
        print(f"  {text:58s} {median(found):9.0f}   {min(found):8d} to {max(found):8d}")


def print_memory(bars, count: int = 200) -> None:
    """Print what one more engine with its objects costs, after one of its kind was made."""
    engines = [_stepped(bars)]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    engines += [_stepped(bars) for _ in range(count)]
    gc.collect()
    cost = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    text = f"KB of one of {count} engines with their objects (goal: 300)"
    print(f"  {text:58s} {cost / 1_000:9.1f}")


def _stepped(bars) -> tuple[Engine, bytes]:
    engine = Engine(configure, FEEDS)
    state = engine.initial()
    for bar in bars[:60]:
        state = engine.step(state, (bar,)).state
    return engine, state


def print_profile(bars) -> None:
    """Print where a warm step spends its time. The profiler slows calls: read shares, not times."""
    engine, state = _stepped(bars)
    profile = cProfile.Profile()
    profile.enable()
    for bar in bars[60:2_060]:
        state = engine.step(state, (bar,)).state
    profile.disable()
    stats = pstats.Stats(profile).stats
    whole = sum(row[2] for row in stats.values())
    shares = {"backtrader": 0.0, "strategies": 0.0, "other": 0.0}
    for (file, _, _), row in stats.items():
        shares[next((name for name in shares if f"{os.sep}{name}{os.sep}" in file), "other")] += row[2]
    for name, own in shares.items():
        print(f"  {name:12s} {100 * own / whole:5.1f} % of own time")
    floor = [row[3] for (_, _, name), row in stats.items() if name == "_next"]
    print(f"  the floor, Backtrader's own _next: {100 * max(floor) / whole:5.1f} % of a step")
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    bars = real_bars(CANDLES, 4_000)
    gc.collect()
    gc.freeze()  # as a worker does when it has started
    if chosen.profile:
        print_profile(bars)
        return
    print_speed(bars, chosen.rounds)
    print_sizes(bars)
    print_memory(bars)


if __name__ == "__main__":
    main()
