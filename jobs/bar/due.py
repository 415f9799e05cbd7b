"""Which bots of a batch have closed bars to step, and which bars: everything that is read, nothing decided.

Pending bars are found from a bot's cursor, never from "now" backwards, so a fire that was lost,
late or doubled changes nothing. A bot without a state begins `lookback_bars` before the moment it
was started; orders are refused on those bars, and on the bars that closed while it was paused.

The order: rows and states, the start, configurations and engines, bars; first of the bots whose engines are
here, and when those are served, of the others.
- The start is written down first, in a transaction of its own. Where a bot's life begins and from when it may
  trade follows from `started_at`; taken from the clock and written with the first bar, it would
  be another moment, and another life, after every death in between.
- Building an engine runs a strategy's own code, which may hang like a step. So it is watched like a step,
  under the bot's name, and nobody who is ready waits for it. An engine that nobody has seen built is not
  built beside other bots' work at all (`unbuilt`): its bot is handed out again, alone. It counts as seen if
  the caller says so, if its code is ours, or if the bot has stepped with it since its files were written.
- Bars come last, because a wrong configuration is no reason to ask an exchange, and once per series for all
  bots that stand at the same bar of it.
- What goes wrong for one bot (its configuration, its strategy's file, its source) goes into `failed`, and the
  others go on. A lost database is nobody's fault and ends the batch.

| the process dies ... | what the next run sees |
|---|---|
| before the start is written | a bot that was never started: it starts then |
| after it | its beginning, the same for ever |
| after bars were recorded | those bars, whatever the source says by then |
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from jobs.bar.contradictions import contradictions
from jobs.bar.engines import Built, Missing
from jobs.bar.failures import Failure, FailureKind, damage, kept_out
from jobs.bar.runtime import Runtime
from jobs.markets import MarketRefused, MarketUnavailable, Series
from persistence import bots
from persistence.bots import Bot
from persistence.ledger.advance import Loaded
from persistence.ledger.history import holdings
from persistence.ledger.steps import load
from strategies.config import BotConfig
from strategies.engine import Engine, EngineError, NotCarriable
from strategies.faults import Fault, InvalidConfig, shown
from strategies.values import Bar, interval_ms

# How long after its close a bar that the source does not show is worth asking for again. Later it
# is a gap until the source shows it, which the next fire will see.
LATE_GRACE_MS: Final = 30_000
LATE_RETRY_MS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One bot with what its next bars need. `text` is the configuration that `config` was parsed from.

    `notice` is what its owner has to be told about the configuration, once for every revision of the row.
    """

    loaded: Loaded
    text: str
    config: BotConfig
    engine: Engine
    series: Series
    after: int
    trade_from: int
    notice: str | None = None
    bars: tuple[Bar, ...] = ()
    behind: bool = False
    retry_at_ms: int | None = None

    @property
    def bot(self) -> Bot:
        return self.loaded.bot


@dataclass(frozen=True, slots=True)
class Batch:
    """`unbuilt` are bots that have to be handed out alone, with the names of their engines."""

    due: tuple[Due, ...] = ()
    failed: tuple[tuple[Bot, Failure], ...] = ()
    unbuilt: tuple[tuple[Bot, str], ...] = ()
    built: tuple[tuple[Bot, str], ...] = ()


def read_batches(bot_ids: Sequence[int], rt: Runtime) -> Iterator[Batch]:
    """Read rows, states and bars: of bots with an engine, then of those whose engines are to be built.

    The only writes are started_at and the record of new bars.
    """
    now = rt.clock.now_ms()
    with rt.database.read() as connection:
        loaded = load(connection, bot_ids, rt.engines.versions(bot_ids))
    ready = [found for found in loaded if may_run(found.bot) and (found.bot.retry_at or 0) <= now]
    failed = _impossible(ready, rt, now)
    unfit = {bot.id for bot, _ in failed}
    if failed:
        yield Batch(failed=tuple(failed))
    missing: list[tuple[Loaded, Missing]] = []
    here: list[Loaded] = []
    for found in _started([found for found in ready if found.bot.id not in unfit], rt, now):
        engine = rt.engines.missing(found.bot.config)
        if engine is None:
            here.append(found)
        else:
            missing.append((found, engine))
    if here:
        yield _read_batch(here, rt, now)
    if missing:
        familiar: list[tuple[Loaded, str]] = []
        foreign: list[tuple[Loaded, str]] = []
        for found, engine in missing:
            (familiar if _was_seen(found, engine, rt) else foreign).append((found, engine.name))
        yield replace(
            _read_batch([found for found, _ in familiar], rt, rt.clock.now_ms()),
            unbuilt=tuple((found.bot, name) for found, name in foreign),
            built=tuple((found.bot, name) for found, name in familiar),
        )


def _was_seen(loaded: Loaded, engine: Missing, rt: Runtime) -> bool:
    """Whether building this engine is known to come back."""
    if rt.buildable is None or engine.plain or engine.name in rt.buildable:
        return True
    stepped = loaded.version > 0 and loaded.state_config in {None, loaded.bot.config}
    return stepped and engine.edited_ms < (loaded.bot.last_heartbeat or 0)


def _read_batch(loaded: Sequence[Loaded], rt: Runtime, now: int) -> Batch:
    prepared: list[Due] = []
    failed: list[tuple[Bot, Failure]] = []
    for found in loaded:
        rt.watch(found.bot.id)  # its strategy's code may run
        try:
            prepared.append(_prepared(found, rt))
        except (InvalidConfig, NotCarriable, MarketRefused) as exc:
            # A bot that ran before gets retries: its strategy's file may be half-saved at this moment.
            kind = FailureKind.STRATEGY if found.version else FailureKind.CONFIGURATION
            failed.append((found.bot, Failure(kind, str(exc))))
    rt.watch(None)
    return _with_bars(prepared, failed, rt, now)


def _impossible(ready: Sequence[Loaded], rt: Runtime, now: int) -> list[tuple[Bot, Failure]]:
    """Return the bots whose rows hold what cannot be there, or contradict one another."""
    failed = [(found.bot, damage(found.bot)) for found in ready if found.bot.broken]
    failed += [(found.bot, why) for found in ready if not found.bot.broken and (why := kept_out(found.bot))]
    unfit = {bot.id for bot, _ in failed}
    # What is warm here was committed here: only what was just fetched can be somebody else's doing.
    fetched = [
        found
        for found in ready
        if found.bot.id not in unfit and (found.state is not None or not found.version)
    ]
    if not fetched:
        return failed
    with rt.database.read() as connection:
        whys = contradictions(connection, fetched, now)
    return failed + [
        (found.bot, Failure(FailureKind.CONFIGURATION, f"this cannot be: {whys[found.bot.id]}"))
        for found in fetched
        if found.bot.id in whys
    ]


def may_run(bot: Bot) -> bool:
    """Whether people want the bot to run and its errors have not stopped it."""
    return bot.enabled and not bot.paused and bot.status != "error"


def _started(loaded: Sequence[Loaded], rt: Runtime, now: int) -> tuple[Loaded, ...]:
    """Write down when bots began, before anything follows from it."""
    fresh = [
        found.bot.id for found in loaded if found.bot.started_at is None or found.bot.status != "running"
    ]
    if not fresh:
        return tuple(loaded)
    with rt.database.write(rt.fence) as connection:
        for bot_id in fresh:
            bots.start_bot(connection, bot_id, now_ms=now if rt.begin_at is None else rt.begin_at)
    bot_ids = [found.bot.id for found in loaded]
    with rt.database.read() as connection:
        return load(connection, bot_ids, rt.engines.versions(bot_ids))


def _prepared(loaded: Loaded, rt: Runtime) -> Due:
    text, built, notice = _chosen(loaded, rt)
    config = rt.engines.config(text)
    interval = interval_ms(config.data.interval)
    return Due(
        loaded=loaded,
        text=text,
        config=config,
        engine=built.engine,
        series=rt.markets.series(config.symbol, config.data),
        after=_after(loaded, interval, config.data.lookback_bars),
        trade_from=_trade_from(loaded, interval, rt),
        notice=notice,
    )


def _chosen(loaded: Loaded, rt: Runtime) -> tuple[str, Built, str | None]:
    """Return the configuration to run, its engine, and what the owner has to be told about the choice.

    An edit that does not validate, or names a strategy that is not there, leaves the bot on its last
    good configuration, and so does another symbol while it holds something of the old one: nobody would
    watch that. Only a bot that has none yet falls back to what an unknown strategy type becomes.
    """
    text = loaded.bot.config
    try:
        built = rt.engines.built(text)
    except (InvalidConfig, NotCarriable) as exc:
        if loaded.state_config in {None, text}:  # there is no last good one to run on with
            raise
        complaint = str(exc)
    else:
        complaint = "; ".join(built.warnings) or _left_behind(loaded, rt)
        if not complaint or loaded.state_config in {None, text}:
            return text, built, f"FALLBACK: {complaint}" if complaint else None
    return (
        loaded.state_config,
        rt.engines.built(loaded.state_config),
        f"CONFIG_REFUSED: the edit was not applied, the bot runs on as before: {complaint}",
    )


def _left_behind(loaded: Loaded, rt: Runtime) -> str:
    """Say what a bot holds of the symbol that an edit of its row takes away; nothing if it may go."""
    if loaded.state_config is None or loaded.state_config == loaded.bot.config:
        return ""
    new = rt.engines.config(loaded.bot.config).symbol
    try:
        old = rt.engines.config(loaded.state_config).symbol
    except InvalidConfig:  # somebody has damaged the record of it: nothing to fall back to
        return ""
    if new == old:
        return ""
    with rt.database.read() as connection:
        held = holdings(connection, loaded.bot.id) or _waiting(loaded, rt)
    if not held:
        return ""
    allowed = f"{old} while the bot holds {held}; {new} follows by itself once it holds nothing"
    return str(Fault("symbol", shown(new), allowed))


def _waiting(loaded: Loaded, rt: Runtime) -> str:
    """Say whether orders wait that the last bar has decided: the ledger is told of them by the next one."""
    state = loaded.state if loaded.state is not None else rt.engines.state(loaded.bot.id)
    try:
        count = rt.engines.built(loaded.state_config or "").engine.open_orders(state)
    except (EngineError, InvalidConfig):  # its code has changed too; the rebuild will say what it cannot move
        return ""
    return f"{count} new order{'' if count == 1 else 's'}" if count else ""


def _after(loaded: Loaded, interval: int, lookback: int) -> int:
    if loaded.last_bar is not None:
        return loaded.last_bar
    started = loaded.bot.started_at or 0
    # One ms before the first of the lookback bars: the bar under way at the start is the first behind them.
    return started - started % interval - lookback * interval - 1


def _trade_from(loaded: Loaded, interval: int, rt: Runtime) -> int:
    """Open time of the first bar that may decide orders: the one under way at the start or the resume."""
    # A resume since the last bar moves it forwards, and nothing ever moves it back: bars that were once
    # seen without orders stay so.
    moments = [loaded.bot.started_at or 0]
    if loaded.trade_from is not None:
        moments = [loaded.trade_from]
    if loaded.bot.resumed_at is not None and rt.begin_at is None:
        moments.append(loaded.bot.resumed_at)
    latest = max(moments)
    return latest - latest % interval


def _with_bars(prepared: Iterable[Due], failed: list[tuple[Bot, Failure]], rt: Runtime, now: int) -> Batch:
    """Ask a series once for all bots that stand at the same bar of it."""
    groups: dict[tuple[Series, int], list[Due]] = {}
    for member in prepared:
        groups.setdefault((member.series, member.after), []).append(member)
    due: list[Due] = []
    for (series, after), members in groups.items():
        rt.watch(None)  # a series is progress: many of a slow exchange are no worker that hangs
        try:
            bars, behind = _read(series, after, now - rt.settings.markets.settle_ms, rt)
        except MarketUnavailable as exc:
            failure = Failure(FailureKind.EXCHANGE, str(exc), exc.retry_after_ms and now + exc.retry_after_ms)
            failed.extend((member.bot, failure) for member in members)
        except MarketRefused as exc:
            failure = Failure(FailureKind.CONFIGURATION, str(exc))
            failed.extend((member.bot, failure) for member in members)
        else:
            retry_at = None if behind else _late(series, bars, after, now, rt)
            due.extend(replace(member, bars=bars, behind=behind, retry_at_ms=retry_at) for member in members)
    return Batch(tuple(due), tuple(failed))


def _read(series: Series, after: int, until: int, rt: Runtime) -> tuple[tuple[Bar, ...], bool]:
    """Return at most `most_bars` bars and whether more wait behind them.

    A bot that was away for months is read in windows; a window without bars may lie in a gap, so
    then everything up to now is read.
    """
    window = min(until, after + (rt.most_bars + 1) * interval_ms(series.interval))
    bars = rt.markets.closed_bars(series, after, window)
    if not bars and window < until:
        bars = rt.markets.closed_bars(series, after, until)
        return bars[: rt.most_bars], len(bars) > rt.most_bars
    return bars[: rt.most_bars], len(bars) > rt.most_bars or window < until


def _late(series: Series, bars: Sequence[Bar], after: int, now: int, rt: Runtime) -> int | None:
    interval = interval_ms(series.interval)
    closed = now - rt.settings.markets.settle_ms
    expected = closed - closed % interval - interval
    newest = bars[-1].open_time if bars else after
    # A bar that is missing for longer is a gap or an outage: the next close is soon enough to look.
    missing = newest < expected
    return now + LATE_RETRY_MS if missing and now - (expected + interval) < LATE_GRACE_MS else None
