"""What is done every so often, and when it is due again. Told the time by its caller (monotonic s)."""


class Rhythm:
    """Due at first, and again `seconds` after it was last found due."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    def due(self, now: float) -> bool:
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True

    def at_once(self) -> None:
        self._next = 0.0

    def after(self, moment: float) -> None:
        """Be due no sooner than `moment`."""
        self._next = moment
