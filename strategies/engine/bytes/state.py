"""The bytes of a state: header, the bot's counters, the tails of the lines, what differs from the baseline.

    magic 4 | version 1 | packing 1 | fingerprint 12 | checksum 8 | body (deflated if packing is 1)

The header is read in this order, and no other would do: first whether these are bytes of this format at
all, then whether they are whole, then whose they are. A cut state is thus never taken for one of other
code, which would start a rebuild and throw it away. The checksum covers everything else, so a changed bit
is found before anything is read. It is no signature: a body is read as if anybody could have written it
(see `reading`).

The body stands in the order in which it can be used: the counters say whether the baseline is the right
one (`built.foundation`); the lines come before the objects because they are written in bulk and their
number is known; the objects come last because only they refer to others. `rebuild` reads the same bytes
without the engine that wrote them: it skips the lines by their head, and of the objects it keeps what the
first few hold.

A version that changes any of this gets a new `VERSION`, and the states of the old one are rebuilt from the
stored bars. Nothing here writes a file or a row: a process that dies in the middle leaves the former state.
"""

import struct
import zlib
from array import array
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter, sub
from typing import Any, Final

from strategies.engine.bytes.input import Input
from strategies.engine.bytes.output import varint
from strategies.engine.engine_errors import CodeChanged, HistoryTooShort, StateInvalid

MAGIC: Final = b"1BAR"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sBB12s8s")
CHECKED_FROM: Final = 18
PACK_FROM: Final = 4_096  # bytes of body; below, deflating costs more than it saves
NAN: Final = float("nan")
LARGEST: Final = 1 << 28
TRIM_FROM: Final = 24  # values more than needed: an array gives memory back from 16 on
SAME_LENGTH, SAME_FLOOR, IRREGULAR = 1, 2, 4
REPEATED: Final = SAME_LENGTH | SAME_FLOOR  # a line like the one before
MOVING: Final = itemgetter("lencount", "_floor", "_tail", "_idx", "extension")


@dataclass(slots=True)
class Counters:
    """What the bot itself remembers, beside Backtrader's objects."""

    next_order: int = 1
    next_trade: int = 1
    stamp: int | None = None  # ms, of the last step
    trade_from: int | None = None  # ms; orders of earlier bars are rejected


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


class LineTails:
    """Depths and lengths, then the tails of all lines as doubles.

    Once the history is cut only the lengths move, all by the same bar. What stays the same of the
    head is kept, which writes the same bytes several times faster.
    """

    __slots__ = ("_chunks", "_floors", "_kept", "_lines", "_longest", "_names", "_used")

    def __init__(self, lines: list[Any]) -> None:
        self._lines = lines
        self._names = [vars(line) for line in lines]  # the moving parts are read past the class, for speed
        # What the head that was written last was made of, and the head (`_chunks`, `_kept`, `_longest`).
        self._floors: tuple[int, ...] = ()
        self._used: tuple[bool, ...] = ()

    def write(self, out: bytearray) -> None:
        counts, floors, tails, indexes, extensions = zip(*map(MOVING, self._names), strict=True)
        ends = [index + 1 for index in indexes]
        count, whole = max(counts), self._lines[0]._horizon.whole
        beyond = list(map(sub, map(len, tails), ends))
        if (
            count > whole
            and not any(beyond)
            and not any(extensions)
            and counts.count(count) + counts.count(0) == len(counts)
        ):
            kept = self._regular_head(out, count, floors, tuple(map(bool, counts)))
        else:
            irregular = tuple(zip(beyond, extensions, strict=True))
            out += varint(count).join(_chunks(counts, floors, irregular, whole))
            kept = [
                held if held <= whole else min(held, 1 - floor)
                for held, floor in zip(counts, floors, strict=True)
            ]
        starts = list(map(sub, ends, kept))
        if min(starts) < 0:
            line = self._lines[starts.index(min(starts))]
            raise HistoryTooShort(line._number, line._horizon.name_of(line._number), 2 - line._floor)
        out += b"".join([tail[start:] for tail, start in zip(tails, starts, strict=True)])

    def _regular_head(
        self, out: bytearray, count: int, floors: tuple[int, ...], used: tuple[bool, ...]
    ) -> list[int]:
        """Write the head of lines that are `count` bars long or not used; return how much they keep."""
        if floors != self._floors or used != self._used:
            self._floors, self._used = floors, used
            self._chunks = _regular_chunks(floors, used, self._lines[0]._horizon.whole)
            self._kept = [1 - floor if is_used else 0 for floor, is_used in zip(floors, used, strict=True)]
            self._longest = max(self._kept)
        out += varint(count).join(self._chunks)
        return self._kept if count >= self._longest else [min(count, kept) for kept in self._kept]

    def read(self, reader: Input) -> None:
        """Undo `write`."""
        number, whole = reader.length(), reader.size()
        if number != len(self._lines) or whole != self._lines[0]._horizon.whole:
            raise StateInvalid("the lines of another strategy")
        lengths, floors, kept_of, irregular = _read_head(reader, number, whole)
        tails = array("d")
        tails.frombytes(reader.take(sum(kept_of) * 8))
        start = 0
        for names, length, floor, kept in zip(self._names, lengths, floors, kept_of, strict=True):
            end = start + kept
            names["_tail"] = tails[start:end]
            names["_idx"] = kept - 1
            names["lencount"] = length
            names["extension"] = 0
            names["_floor"] = floor
            start = end
        for at, (beyond, extension) in irregular.items():
            self._names[at]["_idx"] -= beyond
            self._names[at]["extension"] = extension


def _chunks(
    counts: tuple[int, ...], floors: tuple[int, ...], irregular: tuple[tuple[int, int], ...], whole: int
) -> list[bytes]:
    """Return the head in pieces, between which the length of the longest line belongs.

    `irregular` has per line how many values lie beyond the present one, and its extension.
    """
    chunks = [bytearray(varint(len(counts)) + varint(whole))]
    length = floor = -1
    highest = max(counts)
    for count, below, extra in zip(counts, floors, irregular, strict=True):
        flags = SAME_LENGTH * (count == length) | SAME_FLOOR * (-below == floor) | IRREGULAR * any(extra)
        chunks[-1].append(flags)
        if count == highest != length:
            chunks.append(bytearray())
        elif count != length:
            chunks[-1] += varint(count)
        if -below != floor:
            chunks[-1] += varint(-below)
        if flags & IRREGULAR:
            chunks[-1] += b"".join(map(varint, extra))
        length, floor = count, -below
    return list(map(bytes, chunks))


@lru_cache(maxsize=1024)
def _regular_chunks(floors: tuple[int, ...], used: tuple[bool, ...], whole: int) -> list[bytes]:
    """Return the chunks that the engines of many bots share, whatever the length of the lines."""
    return _chunks(used, floors, ((0, 0),) * len(used), whole)


def skip_lines(reader: Input) -> list[int]:
    """Read past the lines of any strategy; return their lengths."""
    lengths, _, kept_of, _ = _read_head(reader, reader.length(), reader.size())
    reader.take(sum(kept_of) * 8)
    return lengths


def _read_head(
    reader: Input, number: int, whole: int
) -> tuple[list[int], list[int], list[int], dict[int, tuple[int, int]]]:
    """Return lengths, floors and how many values are there of a line; of the irregular what they add."""
    raw, position = reader.raw, reader.at
    lengths, floors, kept_of = [], [], []
    irregular = {}
    length = floor = kept = 0
    for at in range(number):
        flags = raw[position]
        position += 1
        if flags != REPEATED:
            reader.at = position
            if not flags & SAME_LENGTH:
                length = reader.size()
            if not flags & SAME_FLOOR:
                floor = -reader.size()
            kept = length if length <= whole or length <= 1 - floor else 1 - floor
            if flags & IRREGULAR:
                irregular[at] = reader.size(), reader.size()
            position = reader.at
        lengths.append(length)
        floors.append(floor)
        kept_of.append(kept)
    reader.at = position
    for at, (beyond, _) in irregular.items():
        kept_of[at] += beyond
    return lengths, floors, kept_of, irregular


def trim_lines(lines: list[Any]) -> None:
    """Forget in memory what a state would not hold either, in bulk, so that a bar costs the same."""
    whole = lines[0]._horizon.whole if lines else 0
    for line in lines:
        surplus = line._idx + line._floor
        if surplus > TRIM_FROM - line._floor and line.lencount > whole:
            del line._tail[:surplus]
            line._idx -= surplus
