"""What a bot decides on its due bars: the engine's steps as one advance of the ledger, or a failure.

A decision is a function of what was read: the row, the state, the bars. It is made outside of any
transaction and writes nothing, so it may be thrown away at any moment (a death, a lost guard) and made
again, and comes out the same. Two things are read while it is made, and both are settled facts: recorded
bars, and which of them were stepped without orders; only when the engine needs a deeper history than its
state holds, or when the code or the parameters have changed.

The order: check the state, rebuild it if its code has changed, say from when orders are allowed, step. A
state that other code made can be taken over, and neither read nor changed; so everything else that the row
asks for waits until the state is one of the present code.

**How far.** The first due bar is stepped alone, and tells how many more fit into `longest_s`; those are
stepped in few goes, which is fast. A bot that needs longer stops behind the bar that it is at: what it has is
committed, the others of its batch go on, and it is fired again for the rest. So the deadline of a worker
counts about `longest_s` or one bar, however far a bot has fallen behind. If several bars fail together, they
are stepped one by one from the same state, which finds the bar that fails; the bars before it count and are
committed. A bar that fails is not stepped over: the bot stands before it until it succeeds or somebody
changes something.

**Whose fault.** Anything that a strategy raises is a failure of its bot. Two errors pass through because they
are not its own: the database's ends the whole batch, a market's is charged to the exchange.
"""

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from jobs.alerts import alerts_of, owner_alert
from jobs.bar.due import Due
from jobs.bar.failures import Failure, FailureKind
from jobs.bar.runtime import Runtime
from jobs.markets import MarketUnavailable
from persistence.database_errors import DatabaseUnavailable
from persistence.ledger.advance import Advance, Stepped
from persistence.ledger.steps import trading_flags
from persistence.notifications import Notification
from strategies.engine import CodeChanged, HistoryTooShort
from strategies.values import Bar, Step, interval_ms

Rows = Sequence[tuple[Bar]]
GROWTH: Final = 16


@dataclass(frozen=True, slots=True)
class Decision:
    """`advance` is None if not even the first due bar could be stepped; `failure` is of the bar after it."""

    due: Due
    advance: Advance | None
    failure: Failure | None = None
    took_ms: float = 0.0

    @property
    def bars(self) -> int:
        return 0 if self.advance is None else len(self.advance.steps)


@dataclass(frozen=True, slots=True)
class Start:
    """The state that the first due bar starts from.

    `first_bar` is where the bot's life can be replayed from. A life in which the code or parameters
    changed cannot: `rebuilt` says that they did just now.
    """

    state: bytes
    first_bar: int | None
    rebuilt: bool = False


def decide(due: Due, rt: Runtime) -> Decision:
    """Step one bot over its due bars. Whatever its strategy does wrong becomes a failure of this bot."""
    began = time.perf_counter_ns()
    try:
        start = _start(due, rt)
    except Exception as exc:  # noqa: BLE001 - a strategy's own code may raise anything
        return Decision(due, None, _failure(exc, due.bars[0]), _ms_since(began))
    steps, failure = _stepped(due, start, rt)
    took_ms = _ms_since(began)
    advance = _advance(due, start, steps, took_ms) if steps else None
    return Decision(due, advance, failure, took_ms)


def _ms_since(began_ns: int) -> float:
    return (time.perf_counter_ns() - began_ns) / 1e6


def _start(due: Due, rt: Runtime) -> Start:
    loaded = due.loaded
    if loaded.version == 0:
        return Start(due.engine.initial(trade_from=due.trade_from), due.bars[0].open_time)
    state = loaded.state if loaded.state is not None else rt.engines.state(due.bot.id)
    first_bar, rebuilt = loaded.first_bar, False
    try:
        due.engine.check_state(state)
    except CodeChanged:
        state = due.engine.rebuild(_seen(due, rt), state)
        first_bar, rebuilt = None, True
    if due.trade_from != loaded.trade_from:
        state = due.engine.trading_from(state, due.trade_from)
    return Start(state, first_bar, rebuilt)


def _stepped(due: Due, start: Start, rt: Runtime) -> tuple[tuple[Step, ...], Failure | None]:
    """Step the due bars that fit into `longest_s`, at least one; the bars before one that fails count."""
    rows = [(bar,) for bar in due.bars]
    steps: list[Step] = []
    state, length, fails = start.state, 1, False
    began = time.perf_counter()
    while len(steps) < len(rows):
        done = len(steps)
        part = rows[done : done + length]
        try:
            steps += _steps(due, replace(start, state=state), part, rt, already=due.bars[:done])
        except Exception as exc:  # noqa: BLE001 - a strategy's own code may raise anything
            if len(part) == 1:
                return tuple(steps), _failure(exc, part[0][0])
            length, fails = 1, True
            continue
        state = steps[-1].state
        spent = time.perf_counter() - began
        if spent >= rt.longest_s:
            break
        length = 1 if fails else _next_length(len(steps), spent, rt.longest_s)
    return tuple(steps), None


def _next_length(done: int, spent_s: float, longest_s: float) -> int:
    """Return how many more bars probably fit. Few bars may mislead, so it grows by `GROWTH` at most."""
    fit = (longest_s - spent_s) * done / max(spent_s, 1e-9)
    return max(1, int(min(fit, GROWTH * done)))


def _steps(due: Due, start: Start, rows: Rows, rt: Runtime, already: Sequence[Bar] = ()) -> tuple[Step, ...]:
    try:
        if len(rows) == 1:
            return (due.engine.step(start.state, rows[0]),)
        return due.engine.catch_up(start.state, rows)
    except HistoryTooShort:
        return _deepened(due, start, rows, rt, already)


def _deepened(due: Due, start: Start, rows: Rows, rt: Runtime, already: Sequence[Bar]) -> tuple[Step, ...]:
    """Step `rows` with a deeper history, by replaying the bot's whole life over its stored bars."""
    before = [(bar,) for bar in already]  # stepped a moment ago, from this very batch, and not stored yet
    if start.first_bar is None:
        # A life in which the code changed cannot be lived again with the present code. Warming up on the
        # stored bars gives the depth; account and position come from the state.
        state = due.engine.rebuild([*_seen(due, rt), *before], start.state)
        return due.engine.catch_up(state, rows)
    lived: list[tuple[Bar]] = []
    changes: dict[int, int] = {}
    if due.loaded.version:
        lived = _stored(due, start.first_bar - 1, rt)
        changes = _changes(due, start.first_bar, rt)
    # Replayed is what happened: the same bars, and the same of them without orders.
    everything = [*lived, *before, *rows]
    first = everything[0][0].open_time
    return due.engine.replay(
        everything, trade_from=changes.pop(first, due.trade_from), changes=changes, keep_last=len(rows)
    )


def _changes(due: Due, first_bar: int, rt: Runtime) -> dict[int, int]:
    """Return from which bar on which bars were refused orders: open time -> first bar that trades again."""
    with rt.database.read() as connection:
        flags = trading_flags(connection, due.bot.id, first_bar)
    changes: dict[int, int] = {}
    refused_since: int | None = None
    for bar, trading in flags:
        if not trading and refused_since is None:
            refused_since = bar
        if trading and refused_since is not None:
            changes[refused_since] = bar
            refused_since = None
    if refused_since is not None:  # it was never allowed orders again until now
        changes[refused_since] = due.trade_from
    changes.setdefault(first_bar, first_bar)
    if due.trade_from != due.loaded.trade_from:
        changes[due.bars[0].open_time] = due.trade_from
    return changes


def _seen(due: Due, rt: Runtime) -> list[tuple[Bar]]:
    """Return the `lookback_bars` up to the cursor, and at least one: what a changed strategy is warmed up on.

    The account is valued at the last close, so positions cannot move into an engine that has seen no bar.
    """
    length = max(1, due.config.data.lookback_bars) * interval_ms(due.series.interval)
    return _stored(due, due.after - length, rt)


def _stored(due: Due, after: int, rt: Runtime) -> list[tuple[Bar]]:
    """Return the bars behind `after` up to the cursor; a market answers a long question in parts."""
    until = due.after + interval_ms(due.series.interval)
    rows: list[tuple[Bar]] = []
    while bars := rt.markets.closed_bars(due.series, after, until):
        rows += [(bar,) for bar in bars]
        after = bars[-1].open_time
    return rows


def _advance(due: Due, start: Start, steps: tuple[Step, ...], took_ms: float) -> Advance:
    bars = due.bars[: len(steps)]
    rows = tuple(
        Stepped(bar.open_time, step, bar.open_time >= due.trade_from)
        for bar, step in zip(bars, steps, strict=True)
    )
    return Advance(
        bot_id=due.bot.id,
        from_version=due.loaded.version,
        revision=due.bot.revision,
        symbol=due.config.symbol,
        config=due.text,
        fingerprint=due.engine.fingerprint,
        first_bar=start.first_bar,
        trade_from=due.trade_from,
        steps=rows,
        took_ms=took_ms,
        notifications=tuple(_notifications(due, start, rows)),
    )


def _notifications(due: Due, start: Start, rows: Sequence[Stepped]) -> list[Notification]:
    alerts = [
        alert
        for done in rows
        if done.trading
        for alert in alerts_of(
            due.bot.id, due.config, done.bar, _without_suppressed(done.step, due.trade_from)
        )
    ]
    name, bot_id = due.config.name, due.bot.id
    if due.notice is not None:
        alerts.append(owner_alert(bot_id, f"config:{due.bot.revision}", name, due.notice, "config"))
    if start.rebuilt:
        message = "CONFIG_APPLIED: strategy or parameters have changed; account and position were taken over"
        alerts.append(owner_alert(bot_id, f"applied:{rows[0].bar}", name, message, "config"))
    return alerts


def _without_suppressed(step: Step, trade_from: int) -> Step:
    """Leave out orders of bars without trading, which the next bar is told of: nobody has refused them."""
    spoken = tuple(
        order
        for order in step.orders
        if not (
            order.status == "Rejected" and order.created_at < trade_from and "refused_by" not in order.info
        )
    )
    return step if len(spoken) == len(step.orders) else replace(step, orders=spoken)


def _failure(exc: Exception, bar: Bar) -> Failure:
    """Name what was raised, on which bar, and the last line of the strategy's own file.

    Stored bars are read here too: the database's failures are the whole batch's and a market's are not
    the strategy's, so neither is charged to it.
    """
    if isinstance(exc, DatabaseUnavailable):
        raise exc
    if isinstance(exc, MarketUnavailable):
        return Failure(FailureKind.EXCHANGE, str(exc))
    frames = traceback.extract_tb(exc.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    # A plug-in's file name carries a digest of its content behind a #.
    where = f" ({Path(own[-1].filename).name.split('#')[0]}:{own[-1].lineno})" if own else ""
    return Failure(FailureKind.STRATEGY, f"{type(exc).__name__}: {exc}{where}, bar {bar.open_time}")
