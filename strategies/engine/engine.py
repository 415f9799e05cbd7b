"""A Backtrader strategy, stepped one bar at a time, with its whole state as bytes between two bars.

    step(state, bars) -> Step        pure: the same state and bars give the same bytes on any engine

The bytes are the fact. The Backtrader objects that an engine holds are a cache of one state, the one in
`_held`: a step that is handed just that state skips loading. Between any two calls either `_held` is the
state that the objects are in, or it is None and the next call loads whatever it is handed.

Every call that makes a state of a state has the same shape therefore, and no other order is right:

    1. `_enter`   take the state out of `_held`; load if it is not the one that was handed in
    2.            change the objects (bars, a new `trade_from`, an account that moves in)
    3.            dump, and only then put the new state into `_held`

    it dies or raises in | the caller has         | the next call
    1, 2 or 3            | the state it handed in | finds None in `_held` and loads
    after 3              | both states            | of the new one is warm, of the old one loads

Nothing here remembers a bot: one engine serves any number of them, state by state, as long as code,
parameters and feeds are theirs. That is what the fingerprint in a state says.

Only bars after the last one are taken (`_drive`); which bar that was is part of the state, so a bar that is
handed in twice is refused on any engine.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from strategies.engine.built import Built
from strategies.engine.bytes.state import unseal
from strategies.engine.engine_errors import CodeChanged, EngineError, HistoryTooShort
from strategies.engine.machine.analysis import analysis_of
from strategies.engine.machine.cerebro import Configure
from strategies.engine.machine.feed import stamps_of, values_of
from strategies.engine.rebuild import SUPPRESSED, deepen, take_over
from strategies.values import Bar, Feed, Position, Step

Row = Sequence[Bar | None]
DEEPER: Final = 2  # a history that was too short is kept this many times deeper
NO_CHANGES: Final[Mapping[int, int | None]] = MappingProxyType({})


class Engine:
    """Steps what `configure(cerebro)` sets up, on bars of `feeds` (Backtrader's data order).

    Raises NotCarriable if something is there that cannot be carried from bar to bar.
    """

    def __init__(
        self, configure: Configure, feeds: Iterable[Feed], *, adopt: Callable[[Any], None] | None = None
    ) -> None:
        self.configure = configure
        self._adopt = adopt  # called with a broker into which the account of other code has moved
        self.feeds = tuple(feeds)
        if not self.feeds:
            raise EngineError("an engine needs at least one feed")
        if len({feed.name for feed in self.feeds}) < len(self.feeds):
            raise EngineError("two feeds have the same name")
        self._shifts = stamps_of(self.feeds)  # ms from a bar's open time to its stamp, per feed
        self._built = Built(configure, self.feeds)
        # Numbers of the containers that two buildings fill differently; None until `initial` has to know.
        self._volatile: tuple[int, ...] | None = None
        self._held: bytes | None = None  # the state that the objects are in, if they are in one

    @property
    def fingerprint(self) -> str:
        """Hash of format, feeds, code and parameters; a state of another one raises CodeChanged."""
        return self._built.fingerprint.hex()

    def initial(self, *, trade_from: int | None = None) -> bytes:
        """Return the state before the first bar. Orders of bars before `trade_from` (ms) are rejected."""
        return self._initial({}, trade_from)

    def step(self, state: bytes, bars: Row) -> Step:
        """Apply one bar: one Bar or None per feed, at least one.

        Raises StateInvalid, CodeChanged, HistoryTooShort, NotCarriable, LooksAhead, EngineError, and
        whatever the strategy itself raises.
        """
        self._enter(state)
        self._drive(bars)
        self._held = self._built.dump()
        return self._result(self._held)

    def catch_up(self, state: bytes, rows: Iterable[Row]) -> tuple[Step, ...]:
        """Apply many bars; only the last Step carries a state, the same as bar by bar."""
        self._enter(state)
        return self._run(rows, {}, None) or self._nothing(state)

    def trading_from(self, state: bytes, open_time: int | None) -> bytes:
        """Return the state with orders rejected on bars before `open_time` (ms); None allows all."""
        self._enter(state)
        self._built.counters.trade_from = open_time
        self._held = self._built.dump()
        return self._held

    def replay(
        self,
        rows: Iterable[Row],
        *,
        trade_from: int | None = None,
        changes: Mapping[int, int | None] = NO_CHANGES,
        keep_last: int | None = None,
    ) -> tuple[Step, ...]:
        """Apply bars from the beginning, keeping as much history as the strategy turns out to read.

        `changes` maps an open time to what `trading_from` was called with just before that bar.
        Only the last `keep_last` steps are returned, if it is given; the last one carries the state.
        """
        stored = rows if isinstance(rows, Sequence) else list(rows)
        depths: dict[int, int] = {}
        # It ends: every round keeps one line at least twice as deep, and a line has no more values than bars.
        while True:
            try:
                state = self._initial(depths, trade_from)
                self._enter(state)
                return self._run(stored, changes, keep_last) or self._nothing(state)
            except HistoryTooShort as short:
                if depths.get(short.line, 0) >= short.depth:
                    raise
                depths[short.line] = max(short.depth, DEEPER * depths.get(short.line, 0))

    def rebuild(self, rows: Iterable[Row], old_state: bytes) -> bytes:
        """Return a state of this code that took over the account of an old one; see `rebuild`.

        `rows` are the stored bars up to the last one that the old state has seen. They are replayed
        with orders suppressed.
        """
        move_in = deepen
        try:
            self.check_state(old_state)
        except CodeChanged:
            move_in = take_over
        self.replay(rows, trade_from=SUPPRESSED, keep_last=1)
        self._held = None
        move_in(self._built, old_state)
        if self._adopt is not None and move_in is take_over:
            with self._built.machine.numbers:
                self._adopt(self._built.machine.broker)
        self._held = self._built.dump()
        return self._held

    def open_orders(self, state: bytes) -> int:
        """Return how many orders of a state wait, also those of the last bar, which no step has told of."""
        self._enter(state)
        self._held = state
        broker = self._built.machine.broker
        return len(broker.pending) + len(broker.submitted)

    def check_state(self, state: bytes) -> None:
        """Raise StateInvalid or CodeChanged if the header says that this engine cannot read the state."""
        unseal(state, self._built.fingerprint)

    def _run(
        self, rows: Iterable[Row], changes: Mapping[int, int | None], keep_last: int | None
    ) -> tuple[Step, ...]:
        built = self._built
        steps: deque[Step] = deque(maxlen=keep_last)
        for row in rows:
            built.tidy()
            if changes:
                for bar in row:
                    if bar is not None and bar.open_time in changes:
                        built.counters.trade_from = changes[bar.open_time]
            self._drive(row)
            steps.append(self._result(b""))
        if steps:
            self._held = built.dump()
            steps[-1] = replace(steps[-1], state=self._held)
        return tuple(steps)

    def _nothing(self, state: bytes) -> tuple[Step, ...]:
        """No bar was applied: the objects are still those of the state."""
        self._held = state
        return ()

    def analysis(self, state: bytes) -> dict[str, Any]:
        """Return what the analyzers would report if the run ended here, as plain values by name."""
        self._enter(state)
        return analysis_of(self._built.machine)

    def _initial(self, depths: dict[int, int], trade_from: int | None) -> bytes:
        self._held = None
        built = self._built
        if self._volatile is None:
            # What chance or the date decides in __init__ is not the same on another engine.
            self._volatile = built.differing(Built(self.configure, self.feeds)) if built.contents else ()
        built.set_volatile(self._volatile)
        built.reset(depths)
        built.counters.trade_from = trade_from
        self._held = built.dump()
        return self._held

    def _enter(self, state: bytes) -> None:
        """Make the objects those of this state; which state they are in is unknown until they are dumped."""
        held, self._held = self._held, None
        if held is None or (held is not state and held != state):
            self._built.load(state)

    def _drive(self, bars: Row) -> None:
        if len(bars) != len(self.feeds):
            raise EngineError(f"{len(bars)} bars for {len(self.feeds)} feeds")
        stamped = [
            (at, bar, bar.open_time + shift)
            for at, (bar, shift) in enumerate(zip(bars, self._shifts, strict=True))
            if bar is not None
        ]
        if not stamped:
            raise EngineError("a step needs at least one bar")
        first, last = min(stamp for _, _, stamp in stamped), max(stamp for _, _, stamp in stamped)
        before = self._built.counters.stamp
        if before is not None and first <= before:
            raise EngineError(f"the bar of {first} is not after the last one, of {before}")
        self._built.drive([(at, values_of(bar, stamp)) for at, bar, stamp in stamped], last)

    def _result(self, state: bytes) -> Step:
        built = self._built
        orders, trades = built.recorder.taken()
        broker = built.machine.broker
        return Step(
            state=state,
            orders=orders,
            trades=trades,
            cash=float(broker.getcash()),
            value=float(broker.getvalue()),
            positions=tuple(
                Position(data._name, float(held.size), float(held.price))
                for data, held in broker.positions.items()
                if held.size
            ),
        )
