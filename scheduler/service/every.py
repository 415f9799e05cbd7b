"""When something that is done every so often is due again (monotonic s)."""


class Every:
    """Says when something that is done every so often is due again."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._next = 0.0

    def due(self, now: float) -> bool:
        if now < self._next:
            return False
        self._next = now + self.seconds
        return True

    def at_once(self) -> None:
        self._next = 0.0

    def after(self, moment: float) -> None:
        self._next = moment
