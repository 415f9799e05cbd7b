"""Where ccxt begins and ends: opening an exchange, names, one page of candles, errors.

ccxt is imported here, when the first exchange is opened; no other module of this package knows it.
It is told to keep its hands off: no retries, no redirects, a rate limit by the monotonic clock
(its own sleeps an hour when the wall clock steps back an hour), a deadline for a whole answer.
"""

import difflib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from jobs.markets.breaker import BAN_PAUSE_MS, LIMIT_PAUSE_MS, Trouble
from jobs.markets.port import MarketRefused, MarketUnavailable, canonical_symbol
from strategies.faults import Fault
from strategies.values import interval_ms

BANNED: Final = 418
TOO_MANY: Final = 429
MOST_PER_PAGE: Final = 1_000
USUAL_PER_PAGE: Final = 300
REASON_LENGTH: Final = 300


def is_exchange(name: str) -> bool:
    """Whether ccxt has an exchange of that id. Its files are looked at: to import it takes a second."""
    spec = find_spec("ccxt")
    return spec is not None and (Path(spec.origin or "").parent / f"{name}.py").is_file()


class VenueFailed(MarketUnavailable):
    """A question that was asked and not answered; `trouble` is what the breaker makes of it."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.reason, trouble.pause_ms)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Page:
    """Candles as ccxt shows them and the venue's time (ms) when it answered, if it said so."""

    candles: Sequence[Sequence[Any]]
    venue_now: int | None


def connect(exchange_id: str, timeout_ms: int, base_url: str | None = None) -> Any:
    """Return a ccxt exchange that has asked nothing yet. `base_url` leads all of its addresses there."""
    import ccxt  # half a second and 68 MB, for those who use an exchange

    from jobs.markets.strict_session import StrictSession

    if exchange_id not in ccxt.exchanges:
        near = difflib.get_close_matches(exchange_id, ccxt.exchanges, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        allowed = f"csv, generated or the id of a ccxt exchange{hint}"
        raise MarketRefused(Fault("data.data_source", repr(exchange_id), allowed))
    session = StrictSession()
    session.trust_env = False
    exchange = getattr(ccxt, exchange_id)(
        {"timeout": timeout_ms, "enableRateLimit": True, "session": session, "options": _options(exchange_id)}
    )
    exchange.throttle = _Throttle(exchange.rateLimit)
    exchange.parse_ohlcvs = _candle_parser(exchange)
    exchange.enableLastJsonResponse = True
    if base_url is not None:
        exchange.urls["api"] = _moved(exchange.urls["api"], base_url)
        exchange.hostname = urlsplit(base_url).netloc
    if exchange.has.get("fetchOHLCV") is not True or not exchange.timeframes:
        found = f"{exchange_id!r}, which has no candles"
        raise MarketRefused(Fault("data.data_source", found, "an exchange that shows candles"))
    return exchange


class _Throttle:
    """Waits until the venue's rate limit lets the next request out; used under the market's lock."""

    def __init__(self, rate_limit_ms: float) -> None:
        self._rate_limit_ms = rate_limit_ms
        self._free_at = 0.0

    def __call__(self, cost: float | None = None) -> None:
        wait = self._free_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._free_at = time.monotonic() + self._rate_limit_ms * (1 if cost is None else cost) / 1_000


def _candle_parser(exchange: Any) -> Callable[..., list[Any]]:
    """Return a parse_ohlcvs that shows what came. ccxt's own turns half an answer into "no candles"."""

    def parse_ohlcvs(rows: object, market: object = None, *_: object, **__: object) -> list[Any]:
        if not isinstance(rows, list):
            raise TypeError(f"candles are {type(rows).__name__}")
        return [exchange.parse_ohlcv(row, market) for row in rows]

    return parse_ohlcvs


def _options(exchange_id: str) -> dict[str, Any]:
    options: dict[str, Any] = {"defaultType": "spot", "maxRetriesOnFailure": 0}
    if exchange_id.startswith("binance"):
        options |= {"fetchCurrencies": False, "fetchMargins": False}
    if exchange_id in {"binance", "binanceus"}:
        options["fetchMarkets"] = {"types": ["spot"]}
    return options


def _moved(addresses: Any, base_url: str) -> Any:
    if isinstance(addresses, Mapping):
        return {key: _moved(value, base_url) for key, value in addresses.items()}
    if isinstance(addresses, str):
        return base_url.rstrip("/") + urlsplit(addresses).path
    return addresses


def symbols_of(exchange: Any) -> dict[str, str | None]:
    """Ask for the list of markets. Return ccxt's symbol by canonical name, None where a name is ambiguous.

    Spot goes before derivatives, names before ids.
    """
    with _translated(exchange):
        markets = list(exchange.load_markets(reload=True).values())
        if not markets:
            raise ValueError("the venue listed no market")
        names: dict[str, str | None] = {}
        for spot in (True, False):
            for key in ("symbol", "id"):
                tier = [market for market in markets if bool(market.get("spot")) is spot]
                for name, symbol in _tier(tier, key).items():
                    names.setdefault(name, symbol)
        return names


def _tier(markets: Sequence[Mapping[str, Any]], key: str) -> dict[str, str | None]:
    names: dict[str, str | None] = {}
    for market in markets:
        name, symbol = canonical_symbol(str(market[key])), str(market["symbol"])
        names[name] = symbol if names.get(name, symbol) == symbol else None
    return names


def timeframe_of(exchange: Any, interval: str) -> str:
    """Return the venue's word for `interval`. Raises MarketRefused naming those it has."""
    length = interval_ms(interval)
    fixed = {name: _length(name) for name in exchange.timeframes}
    for name, fixed_length in fixed.items():
        if fixed_length == length:
            return str(name)
    known = sorted((name for name in fixed if fixed[name]), key=lambda name: fixed[name] or 0)
    allowed = f"one that {exchange.id} has: {', '.join(known)}"
    raise MarketRefused(Fault("data.interval", repr(interval), allowed))


def _length(timeframe: str) -> int | None:
    try:
        return interval_ms(timeframe)
    except ValueError:
        return None  # months and years have no fixed length


def page_size(exchange: Any) -> int:
    features = exchange.features or {}
    candles = (features.get("spot") or {}).get("fetchOHLCV") or {}
    return min(int(candles.get("limit") or USUAL_PER_PAGE), MOST_PER_PAGE)


def page_of(exchange: Any, symbol: str, timeframe: str, since: int, limit: int) -> Page:
    """Ask for up to `limit` candles from `since` (ms) on. Raises VenueFailed and MarketRefused."""
    with _translated(exchange):
        candles = exchange.fetch_ohlcv(symbol, timeframe, since, limit)
        if not candles and exchange.last_json_response in (None, {}):
            raise ValueError("the answer is no JSON or has nothing in it")
        return Page(candles, _venue_now(exchange.last_response_headers))


def _venue_now(headers: Mapping[str, str] | None) -> int | None:
    """Return the Date of the answer in ms. It is cut to the second, so never later than the truth."""
    try:
        return int(parsedate_to_datetime((headers or {})["Date"]).timestamp() * 1_000)
    except (KeyError, ValueError):
        return None


@contextmanager
def _translated(exchange: Any) -> Iterator[None]:
    import ccxt  # connect() has imported it

    # Headers of an earlier answer say nothing about a question that gets none.
    exchange.last_response_headers = exchange.last_json_response = None
    try:
        yield
    except (ccxt.NotSupported, ccxt.BadSymbol) as exc:
        raise MarketRefused(_reason(exchange, exc)) from exc
    except ccxt.BaseError as exc:
        slow = isinstance(exc, ccxt.RequestTimeout)
        limited = isinstance(exc, (ccxt.RateLimitExceeded, ccxt.DDoSProtection))
        pause = _pause(exchange.last_response_headers, _status(exc), limited=limited)
        raise VenueFailed(Trouble(_reason(exchange, exc), slow=slow, pause_ms=pause)) from exc
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as exc:
        # ccxt reads answers as if they had the right shape; half an answer ends in any of these.
        raise VenueFailed(
            Trouble(f"{exchange.id}: the answer cannot be read: {exc!r}"[:REASON_LENGTH])
        ) from exc


def _reason(exchange: Any, exc: Exception) -> str:
    cause = f" ({exc.__cause__})" if exc.__cause__ else ""
    text = f"{exchange.id}: {type(exc).__name__}: {exc}{cause}"
    return text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 3] + "..."


def _status(exc: BaseException) -> int | None:
    cause = exc.__cause__ or exc.__context__
    status = getattr(getattr(cause, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _pause(headers: Mapping[str, str] | None, status: int | None, *, limited: bool) -> int | None:
    """Return for how many ms the venue wants no question, None if it named no time."""
    text = (headers or {}).get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return int(text) * 1_000
    if status == BANNED:
        return BAN_PAUSE_MS
    return LIMIT_PAUSE_MS if limited or status == TOO_MANY else None
