"""An exchange on this machine: binance's public candle endpoints over plain HTTP, as ccxt calls them.

As a fixture: `with CandleServer(series) as server: ExchangeMarket("binance", base_url=server.url)`.
As a process: `python tests/emulator/candle_server.py --file BTCUSDT=1h=path.csv --port 8123`; then
`POST /control` with `{"now_ms": 1}` or `{"faults": [{"kind": "429", "times": 2}]}` steers it.

What is emulated is the shape of the answers and the ways in which they fail, not the venue's limits.
"""

import argparse
import csv
import gzip
import json
import socket
import struct
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
INTERVALS = (
    "1s",
    "1m",
    "3m",
    "5m",
    "15m",
    "30m",
    "1h",
    "2h",
    "4h",
    "6h",
    "8h",
    "12h",
    "1d",
    "3d",
    "1w",
    "1M",
)
QUOTES = ("USDT", "BTC", "EUR")
MOST_CANDLES = 1_000

Candle = tuple[Any, ...]  # open time in ms, then open, high, low, close, volume as text
Tamper = Callable[[list[list[Any]]], list[list[Any]]]


@dataclass(frozen=True, slots=True)
class Fault:
    """How the next `times` requests whose path contains `path` go wrong. `value` depends on the kind."""

    kind: str
    times: int = 1
    path: str = "klines"
    value: float | str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    query: dict[str, str]
    at: float  # monotonic, s


@dataclass(slots=True)
class Venue:
    """What the emulated exchange knows. Tests change it while it runs.

    `now_ms` None follows this machine's clock. `series` is by (symbol, interval), ascending.
    """

    series: dict[tuple[str, str], list[Candle]]
    now_ms: int | None = None
    faults: list[Fault] = field(default_factory=list)
    tamper: Tamper | None = None
    requests: list[Request] = field(default_factory=list)
    extra_symbols: tuple[tuple[str, str], ...] = ()
    shows_date: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> int:
        return time.time_ns() // 1_000_000 if self.now_ms is None else self.now_ms

    def next_fault(self, path: str) -> Fault | None:
        with self.lock:
            for place, fault in enumerate(self.faults):
                if fault.path in path:
                    rest = Fault(fault.kind, fault.times - 1, fault.path, fault.value)
                    self.faults[place : place + 1] = [rest] if rest.times else []
                    return fault
        return None

    def klines(self, query: dict[str, str]) -> tuple[int, Any]:
        interval, symbol = query.get("interval", ""), query.get("symbol", "")
        if interval not in INTERVALS:
            return 400, {"code": -1120, "msg": "Invalid interval."}
        if symbol not in {known for known, _ in self.series}:
            return 400, {"code": -1121, "msg": "Invalid symbol."}
        length = length_ms(interval)
        limit = min(int(query.get("limit", 500)), MOST_CANDLES)
        now = self.now()
        end = min(int(query.get("endTime", now)), now)
        candles = self.series.get((symbol, interval), [])
        last = bisect_right(candles, end, key=_opened)
        first = max(0, last - limit)
        if "startTime" in query:
            first = bisect_left(candles, int(query["startTime"]), key=_opened)
            last = min(last, first + limit)
        rows = [kline(candle, length, now) for candle in candles[first:last]]
        return 200, self.tamper(rows) if self.tamper else rows

    def exchange_info(self) -> dict[str, Any]:
        pairs = sorted({(s, next(q for q in QUOTES if s.endswith(q))) for s, _ in self.series})
        listed = [listing(symbol.removesuffix(quote), quote) for symbol, quote in pairs]
        listed += [listing(base, quote) for base, quote in self.extra_symbols]
        return {
            "timezone": "UTC",
            "serverTime": self.now(),
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": listed,
        }


def _opened(candle: Candle) -> int:
    return int(candle[0])


def length_ms(interval: str) -> int:
    return int(interval[:-1]) * UNITS_MS.get(interval[-1], 0)


def kline(candle: Candle, length: int, now: int) -> list[Any]:
    """One row as binance writes it. A candle under way shows a part of what it will be."""
    opened, *numbers = candle
    first, high, low, last, volume = numbers
    if opened + length > now:
        part = Decimal(max(now - opened, 0)) / length
        last = text(Decimal(first) + (Decimal(last) - Decimal(first)) * part)
        high = text(max(Decimal(first), Decimal(last)))
        low = text(min(Decimal(first), Decimal(last)))
        volume = text(Decimal(volume) * part)
    return [opened, first, high, low, last, volume, opened + length - 1, "0", 60, "0", "0", "0"]


def text(number: Decimal) -> str:
    return format(number, "f")


def listing(base: str, quote: str) -> dict[str, Any]:
    return {
        "symbol": base + quote,
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.00000001",
                "maxPrice": "1000000",
                "tickSize": "0.00000001",
            },
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
            {"filterType": "NOTIONAL", "minNotional": "5", "applyMinToMarket": True},
        ],
        "permissions": ["SPOT"],
    }


def candles_of(file: Path) -> list[Candle]:
    """Read a CSV of timestamp, open, high, low, close, volume; prices as decimal text without exponents."""
    with file.open(newline="") as stream:
        rows = csv.DictReader(stream)
        return [
            (
                round(datetime.fromisoformat(row["timestamp"]).timestamp() * 1_000),
                *(text(Decimal(row[name])) for name in ("open", "high", "low", "close", "volume")),
            )
            for row in rows
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    venue: Venue

    def setup(self) -> None:
        super().setup()
        # Without it an answer waits 40 ms for the other side's delayed acknowledgement.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        with self.venue.lock:
            self.venue.requests.append(Request(parts.path, query, time.monotonic()))
        status, answer = self._answer(parts.path, query)
        body = json.dumps(answer).encode()
        fault = self.venue.next_fault(parts.path)
        if fault is None:
            self._send(status, body)
        else:
            self._fail(fault, status, body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/control":
            self._send(404, b"{}")
            return
        orders = json.loads(body)
        with self.venue.lock:
            if "now_ms" in orders:
                self.venue.now_ms = orders["now_ms"]
            self.venue.faults += [Fault(**fault) for fault in orders.get("faults", ())]
        self._send(200, json.dumps({"requests": len(self.venue.requests)}).encode())

    def _answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if path.endswith("/klines"):
            return self.venue.klines(query)
        if path.endswith("/exchangeInfo"):
            return 200, self.venue.exchange_info()
        if path.endswith("/time"):
            return 200, {"serverTime": self.venue.now()}
        return (200, {}) if path.endswith("/ping") else (404, {"code": -1, "msg": "no such path"})

    def _send(self, status: int, body: bytes, *headers: str, length: int | None = None) -> None:
        kind = "application/json" if body[:1] in b'[{n"' else "text/html"
        lines = [
            f"HTTP/1.1 {status} {status}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body) if length is None else length}",
            *headers,
        ]
        if self.venue.shows_date:
            lines.append(f"Date: {formatdate(self.venue.now() // 1_000, usegmt=True)}")
        # One write, so that headers and body leave together.
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        self.wfile.flush()

    def _fail(self, fault: Fault, status: int, body: bytes) -> None:
        kind, value = fault.kind, fault.value
        if kind.isdigit():
            headers = [f"Retry-After: {value}"] if value is not None else []
            self._send(int(kind), b"<html>no</html>", *headers)
        elif kind in {"slow", "never"}:
            time.sleep(float(value or 1) if kind == "slow" else 30)
            self._send(status, body)
        elif kind == "drip":
            self._drip(body, float(value or 0.05))
        elif kind in {"cut", "reset"}:
            self._send(status, body[: len(body) // 2], length=len(body))
            self._hang_up(reset=kind == "reset")
        elif kind == "redirect":
            self._send(302, b"", f"Location: {value}")
        else:
            self._send(200, *_wrong_body(kind, body))

    def _drip(self, body: bytes, pause_s: float) -> None:
        self._send(200, b"[", length=len(body))
        for place in range(1, len(body)):
            time.sleep(pause_s)
            self.wfile.write(body[place : place + 1])
            self.wfile.flush()

    def _hang_up(self, *, reset: bool) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is http.server's
        del format, args


def _wrong_body(kind: str, body: bytes) -> tuple[bytes, ...] | tuple[bytes, str]:
    if kind == "bad_gzip":
        return gzip.compress(body)[:-9] + b"spoiled..", "Content-Encoding: gzip"
    bodies = {
        "html": b"<html><body>maintenance</body></html>",
        "half_json": body[: len(body) // 2],
        "empty": b"",
        "null": b"null",
        "object": b"{}",
        "list": b"[]",
        "text": b'"nothing"',
        "odd_rows": b'[{"a": 1}, 7, null]',
        "short_rows": b'[[1620000000000, "1"]]',
        "nonsense": b'[["x", "y", "z", "", {}, []]]',
    }
    return (bodies[kind],)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    # A client that gave up is what half of the tests are about.
    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address


class CandleServer:
    """A venue behind a port of the loopback interface, for as long as the context lasts."""

    def __init__(
        self, series: dict[tuple[str, str], list[Candle]], *, now_ms: int | None = None, port: int = 0
    ) -> None:
        self.venue = Venue(series, now_ms)
        handler = type("Handler", (_Handler,), {"venue": self.venue})
        self._server = _Server(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, *faults: Fault) -> None:
        with self.venue.lock:
            self.venue.faults += faults

    def asked(self, path: str = "klines") -> list[Request]:
        with self.venue.lock:
            return [each for each in self.venue.requests if path in each.path]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Emulate binance's public candles on this machine.")
    parser.add_argument("--file", action="append", default=[], metavar="SYMBOL=INTERVAL=PATH")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--now-ms", type=int, default=None, help="the venue's time; this machine's if left out"
    )
    chosen = parser.parse_args(arguments)
    series = {}
    for entry in chosen.file:
        symbol, interval, path = entry.split("=", 2)
        series[symbol, interval] = candles_of(Path(path))
    with CandleServer(series, now_ms=chosen.now_ms, port=chosen.port) as server:
        print(server.url, datetime.now(UTC).isoformat(), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
