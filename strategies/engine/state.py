"""The bytes of a state: header, the bot's counters, the tails of the lines, what differs from the baseline.

    magic 4 | version 1 | packing 1 | fingerprint 12 | checksum 8 | body (deflated if packing is 1)

The checksum covers everything else, so a changed bit is found before anything is read. It is no
signature: a body is read as if anybody could have written it (see `reading`). Nothing here writes a
file or a row; who dies in the middle leaves the former state.
"""

import struct
import zlib
from array import array
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from strategies.engine.errors import CodeChanged, HistoryTooShort, StateInvalid
from strategies.engine.reading import Reader

MAGIC: Final = b"1BAR"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sBB12s8s")
CHECKED_FROM: Final = 18
PACK_FROM: Final = 4_096  # bytes of body; below, deflating costs more than it saves
NAN: Final = float("nan")
SEVEN_BITS: Final = 0x7F
LARGEST: Final = 1 << 28
TRIM_FROM: Final = 24  # values more than needed: an array gives memory back from 16 on
SAME_LENGTH, SAME_FLOOR, IRREGULAR = 1, 2, 4


@dataclass(slots=True)
class Counters:
    """What the bot itself remembers, beside Backtrader's objects."""

    next_order: int = 1
    next_trade: int = 1
    stamp: int | None = None  # ms, of the last step
    trade_from: int | None = None  # ms; orders of earlier bars are rejected
    open_trades: list[Any] = field(default_factory=list)


def seal(body: bytes, fingerprint: bytes) -> bytes:
    """Put the header before a body."""
    packing = 0
    if len(body) >= PACK_FROM:
        packed = zlib.compress(body, 1)
        if len(packed) < len(body):
            body, packing = packed, 1
    start = HEADER.pack(MAGIC, VERSION, packing, fingerprint, b"")[:CHECKED_FROM]
    return start + _checksum(start, body) + body


def unseal(state: bytes, fingerprint: bytes | None) -> bytes:
    """Check the header and return the body. `fingerprint` None accepts a state of any code."""
    if type(state) is not bytes or len(state) < HEADER.size:
        raise StateInvalid("a state is at least as long as its header; this is cut short or no state")
    magic, version, packing, made_by, checksum = HEADER.unpack_from(state)
    if magic != MAGIC:
        raise StateInvalid("these bytes are no state of the engine")
    if version != VERSION:
        raise StateInvalid(f"the state has format version {version}, this engine reads version {VERSION}")
    body = state[HEADER.size :]
    if checksum != _checksum(state[:CHECKED_FROM], body):
        raise StateInvalid("the checksum does not fit: the state was cut or altered")
    if fingerprint is not None and made_by != fingerprint:
        raise CodeChanged(
            "the state was made by other code, parameters or feeds "
            f"({made_by.hex()}, not {fingerprint.hex()}); rebuild it from the stored bars with Engine.rebuild"
        )
    return _unpacked(body) if packing else body


def _checksum(start: bytes, body: bytes) -> bytes:
    return blake2b(body, digest_size=8, key=start).digest()


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(body, LARGEST)
    except zlib.error as exc:
        raise StateInvalid("the state cannot be unpacked") from exc
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise StateInvalid("the state is too large or cut short")
    return plain


class LineWriter:
    """Depths and lengths, then the tails of all lines as doubles.

    Once the history is cut only the lengths move, all by the same bar. What stays the same of the
    head is kept, which writes the same bytes several times faster.
    """

    __slots__ = ("_chunks", "_floors", "_lines", "_names", "_used")

    def __init__(self, lines: list[Any]) -> None:
        self._lines = lines
        self._names = [vars(line) for line in lines]
        self._floors: list[int] = []
        self._used: list[bool] = []
        self._chunks: list[bytes] = []

    def write(self, out: bytearray) -> None:
        names = self._names
        counts = [each["lencount"] for each in names]
        floors = [each["_floor"] for each in names]
        tails = [each["_tail"] for each in names]
        ends = [each["_idx"] + 1 for each in names]
        count = max(counts, default=0)
        if (
            floors == self._floors
            and counts == [count if used else 0 for used in self._used]
            and list(map(len, tails)) == ends
            and not any(each["extension"] for each in names)
        ):
            out += _varint(count).join(self._chunks)
            starts = [
                end - min(held, 1 - floor) for end, held, floor in zip(ends, counts, floors, strict=True)
            ]
        else:
            starts = self._head(out, counts, floors)
        if min(starts, default=0) < 0:
            line = self._lines[starts.index(min(starts))]
            raise HistoryTooShort(line._number, line._horizon.name_of(line._number), 2 - line._floor)
        out += b"".join([tail[start:] for tail, start in zip(tails, starts, strict=True)])

    def _head(self, out: bytearray, counts: list[int], floors: list[int]) -> list[int]:
        """Write the head line by line, return where the tails start; keep it if it is regular."""
        whole = self._lines[0]._horizon.whole
        chunks = [bytearray(_varint(len(counts)) + _varint(whole))]
        length = floor = -1
        highest = max(counts)
        regular = highest > whole
        starts = []
        for line, count, below in zip(self._lines, counts, floors, strict=True):
            beyond = len(line._tail) - 1 - line._idx
            flags = SAME_LENGTH * (count == length) | SAME_FLOOR * (-below == floor)
            flags |= IRREGULAR * bool(beyond or line.extension)
            chunks[-1].append(flags)
            if count == highest != length:
                chunks.append(bytearray())
            elif count != length:
                chunks[-1] += _varint(count)
            if -below != floor:
                chunks[-1] += _varint(-below)
            if flags & IRREGULAR:
                chunks[-1] += _varint(beyond) + _varint(line.extension)
            regular = regular and not flags & IRREGULAR and count in (0, highest)
            length, floor = count, -below
            starts.append(line._idx + 1 - (count if count <= whole else min(count, 1 - below)))
        out += _varint(highest).join(map(bytes, chunks))
        if regular:
            self._floors, self._chunks = floors, [bytes(chunk) for chunk in chunks]
            self._used = [count > 0 for count in counts]
        return starts


def read_lines(reader: Reader, lines: list[Any] | None) -> list[int]:
    """Undo `write_lines`, into the lines, or past them if there are none; returns the lengths."""
    length = floor = 0
    number, whole = reader.length(), reader.size()
    if lines is not None and (number != len(lines) or whole != lines[0]._horizon.whole):
        raise StateInvalid("the lines of another strategy")
    lengths, kept_of = [], []
    for at in range(number):
        flags = reader.take(1)[0]
        if not flags & SAME_LENGTH:
            length = reader.size()
        if not flags & SAME_FLOOR:
            floor = reader.size()
        beyond, extension = (reader.size(), reader.size()) if flags & IRREGULAR else (0, 0)
        kept = length if length <= whole or length <= floor + 1 else floor + 1
        kept_of.append(kept + beyond)
        lengths.append(length)
        if lines is not None:
            line = lines[at]
            line.lencount, line._floor, line._idx, line.extension = length, -floor, kept - 1, extension
    tails = memoryview(reader.take(sum(kept_of) * 8))
    start = 0
    for line, kept in zip(lines or (), kept_of, strict=lines is not None):
        tail = array("d")
        tail.frombytes(tails[start : start + kept * 8])
        line._tail = tail
        start += kept * 8
    return lengths


def trim_lines(lines: list[Any]) -> None:
    """Forget in memory what a state would not hold either, in bulk, so that a bar costs the same."""
    whole = lines[0]._horizon.whole if lines else 0
    for line in lines:
        surplus = line._idx + line._floor
        if surplus > TRIM_FROM - line._floor and line.lencount > whole:
            del line._tail[:surplus]
            line._idx -= surplus


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > SEVEN_BITS:
        out.append(number & SEVEN_BITS | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
