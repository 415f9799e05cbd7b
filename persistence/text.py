"""Text that both databases can keep: strategies put anything into names and messages."""


def storable(text: str) -> str:
    """Return `text` with NUL and lone surrogates written as escapes.

    PostgreSQL keeps no NUL, and neither driver can encode a surrogate: one bot's message must not
    break the transaction that it shares with a hundred others.
    """
    if text.isascii():
        return text if "\0" not in text else text.replace("\0", "\\x00")
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def read_text(data: bytes) -> str:
    """Return text that SQLite keeps; bytes in it that are no UTF-8 become escapes instead of an error."""
    return data.decode("utf-8", "backslashreplace")
