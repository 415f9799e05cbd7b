"""Signals that one part of a program wants for a while; the handlers from before get them back."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_to(handler: Callable[[int, FrameType | None], None], names: Iterable[str]) -> Iterator[None]:
    """Send the named signals to `handler`; names that this system does not have are passed over."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, former in zip(numbers, before, strict=True):
            signal.signal(number, former)
