"""What is a secret, and what is shown in its place. The only home of both rules.

A secret is told by its place, since its look tells nothing: by the name of the key that holds it, by where it
stands in a URL, by the word in front of it in a message. Whatever can be shown to a person (a fault, a list,
a log line, an alert, an error of a driver) comes past one of the functions here on its way.

In doubt too much is hidden: a word that cannot be read costs a look at the file, a key that was printed costs
the account. Two things follow from that. Text under a key that nobody knows is never shown, as nobody knows
what it is (`unknown`); and of a URL that is none, only what cannot be a password (`shown_url`).
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

HIDDEN: Final = "***"
SHORTEST_HIDDEN: Final = 4  # characters; a shorter value would be found in every other word of a message

_WORDS: Final = (
    r"secret|passw|passwd|\bpwd\b|passphrase|passcode|token|credential|mnemonic|seed_?phrase|webhook|\bdsn\b"
    r"|(?:api|private|access|signing|encryption|session|auth)[-_ ]?key|authorization|\bbearer\b|\bcookie\b"
    r"|\bsignature\b|\bpin\b|\botp\b"
)
_SECRET: Final = re.compile(rf"{_WORDS}|^key$", re.IGNORECASE)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_USER: Final = re.compile(r"[\w.%-]+")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
# What looks like a URL or an account in a text: up to the next blank, quote or bracket.
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+[^\s\"'<>]+|[^\s\"'<>]*:[^\s\"'<>]*@[^\s\"'<>]+")
_BEARER: Final = re.compile(r"\b(bearer|basic) +[\w.~+/=-]{8,}", re.IGNORECASE)
_TELEGRAM: Final = re.compile(r"\bbot\d+:[\w-]{20,}")
# `found` after a key is the word of a fault, whose value was hidden when it was made.
_SAID: Final = re.compile(
    rf"(?P<key>[\w.-]*(?:{_WORDS})[\w-]*\\?[\"']?\s*[:=]\s*(?!found\b))"
    r"(?P<value>\\?\"(?:\\.|[^\"\\])*\\?\"|'(?:\\.|[^'\\])*'|[^\s\"',;&}\])]+)",
    re.IGNORECASE,
)


def is_secret(key: object) -> bool:
    """Whether a value under this key is hidden: `api_key`, `apiKey`, `telegram.token`, `DB_PASSWD`."""
    words = _CAMEL.sub("_", str(key))
    return _SECRET.search(words) is not None or _SECRET.search(words.replace("_", " ")) is not None


def masked(value: object) -> object:
    """Return JSON data with the values of secret keys, and what texts say of secrets, hidden."""
    if isinstance(value, dict):
        return {
            key: HIDDEN if is_secret(key) and held not in (None, "") else masked(held)
            for key, held in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value


def unknown(value: object) -> str | None:
    """Return what is said of a value under an unknown key; None if it cannot be a secret."""
    if isinstance(value, str) and value:
        return f"text of {len(value)} characters"
    if isinstance(value, dict) and value:
        return "an object"
    return "an array" if isinstance(value, list | tuple) and value else None


def secrets_in(config: str) -> Iterator[str]:
    """Yield the texts under secret keys in a configuration: what its code raises may quote them."""
    try:
        yield from _held(json.loads(config), secret=False)
    except (ValueError, RecursionError):
        return


def _held(value: Any, *, secret: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for key, held in value.items():
            yield from _held(held, secret=secret or is_secret(key))
    elif isinstance(value, list):
        for item in value:
            yield from _held(item, secret=secret)
    elif secret and isinstance(value, str) and len(value) >= SHORTEST_HIDDEN:
        yield value


def shown_url(url: str) -> str:
    """Return a URL as it may be shown: scheme, user, host and path of one that is well formed.

    Everything in front of the last `@` may belong to a password that holds a `/` or an `@`; of the query
    nothing is shown from the first secret on, because what follows a `&` may belong to it.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or not _SCHEME.fullmatch(scheme):
        scheme, colon, rest = "", "", url
    slashes = rest[: len(rest) - len(rest.lstrip("/"))]
    rest, mark, query = rest[len(slashes) :].partition("?")
    if mark and "@" in query and not re.fullmatch(r"[\w.-]+=.*", query):
        rest, mark, query = f"{rest}?{query}", "", ""  # a password with a question mark
    account, at, place = rest.rpartition("@")
    if at:
        user, two, _ = account.partition(":")
        alone = _USER.fullmatch(user) if slashes else None
        shown = f"{user if alone else HIDDEN}{two and two + HIDDEN}@{place}"
    else:
        shown = _without_account(scheme, rest)
    return f"{scheme}{colon}{slashes}{shown}{mark}{_query(query)}"


def _without_account(scheme: str, rest: str) -> str:
    """Hide what follows a colon and is no port: `user:password` of a URL whose `@host` was forgotten."""
    host, colon, port = rest.partition("/")[0].partition(":")
    if scheme.lower().startswith("sqlite") or not colon or port.isdecimal() or host.startswith("["):
        return rest
    return f"{host}:{HIDDEN}"


def _query(query: str) -> str:
    shown: list[str] = []
    for pair in query.split("&"):
        key, equals, _ = pair.partition("=")
        if equals and is_secret(key):
            return "&".join([*shown, f"{key}={HIDDEN}"])
        shown.append(pair)
    return "&".join(shown)


def fault_of_url(url: str) -> str | None:
    """Say why no driver shall be given this URL, in words without any of it; None if it is well formed.

    A driver that reads half of a password as a host or a port says it in its error.
    """
    remedy = "write / : @ ? # of a password as %2F %3A %40 %3F %23"
    if url.startswith("sqlite"):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"its host or port cannot be read; {remedy}"
    del port
    if parts.netloc.count("@") > 1 or "@" in parts.path or parts.fragment:
        return f"its user, password and host cannot be told apart; {remedy}"
    return None


def without_secrets(text: str, *values: str) -> str:
    """Return a message with passwords of URLs, values behind secret words, and these `values` hidden."""
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    text = _URL.sub(lambda found: shown_url(found[0]), text)
    text = _BEARER.sub(lambda found: f"{found[1]} {HIDDEN}", text)
    text = _TELEGRAM.sub(f"bot{HIDDEN}", text)
    return _SAID.sub(lambda found: found["key"] + _instead(found["value"]), text)


def _instead(value: str) -> str:
    """Keep the quotes, so that what was JSON still is."""
    quote = re.match(r"\\?[\"']", value)
    return f"{quote[0]}{HIDDEN}{quote[0]}" if quote else HIDDEN
