"""The HTTP of ccxt with an end: one deadline for a whole answer, no redirects, no endless bodies.

requests' own time-out starts again with every packet, so a venue that sends a byte now and then
would hold a worker for ever. Redirects are refused because an answer from elsewhere is not the
venue's. This module imports requests and is imported only when an exchange is opened.
"""

import time
from typing import Any, Final

import requests
import urllib3

MOST_BYTES: Final = 64 << 20
_PIECE: Final = 1 << 16
_REDIRECTS: Final = range(300, 400)


class StrictSession(requests.Session):
    """`requests.Session` whose `timeout` is the time that a request may take in all."""

    def request(self, method: str, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        deadline = time.monotonic() + kwargs["timeout"]
        kwargs |= {"stream": True, "allow_redirects": False}
        response = super().request(method, url, *args, **kwargs)
        try:
            if response.status_code in _REDIRECTS:
                raise requests.TooManyRedirects(f"redirect to {response.headers.get('Location')} refused")
            body = _body(response, deadline)
        except BaseException:
            response.close()
            raise
        # What requests itself does when it reads a body; it offers no way to hand one in.
        response._content = body  # noqa: SLF001
        response._content_consumed = True  # noqa: SLF001
        return response


def _body(response: requests.Response, deadline: float) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := response.raw.read1(_PIECE, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > MOST_BYTES:
                raise requests.exceptions.ContentDecodingError(f"an answer of more than {MOST_BYTES} bytes")
            if time.monotonic() > deadline:
                raise requests.ReadTimeout("the answer did not end in time")
    except urllib3.exceptions.ProtocolError as exc:
        raise requests.exceptions.ChunkedEncodingError(exc) from exc
    except urllib3.exceptions.DecodeError as exc:
        raise requests.exceptions.ContentDecodingError(exc) from exc
    except urllib3.exceptions.ReadTimeoutError as exc:
        raise requests.ReadTimeout(exc) from exc
    except urllib3.exceptions.HTTPError as exc:
        raise requests.ConnectionError(exc) from exc
    return b"".join(pieces)
