"""A wire to PostgreSQL that goes silent: it keeps its connections, forwards nothing, says no goodbye.

So a machine without power, a route that forgot its translation or a stopped process looks from the server:
no FIN and no reset ever comes. `half` lets the first bytes of the next message through, and the server waits
for the rest.
"""

import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SOCKET = ".s.PGSQL.5432"


class SilentWire:
    """Relay a server's unix socket, message by message from the client's side, until it goes silent."""

    def __init__(self, url):
        self.silent = threading.Event()
        self.sent = 0  # messages of clients since `count` was called
        self._after = None  # messages until silence; None while it is not armed
        self._half = False
        self._lock = threading.Lock()
        self._held = []  # what was said into the silence: (sink, bytes)
        self._server = Path(parse_qs(urlsplit(url).query)["host"][0]) / SOCKET
        self._folder = Path(tempfile.mkdtemp(prefix="silent-"))
        self.url = url.replace(str(self._server.parent), str(self._folder))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / SOCKET))
        self._listener.listen()
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def count(self, after=None, *, half=False):
        """Count anew; go silent when `after` more messages have gone through."""
        with self._lock:
            self.sent, self._after, self._half = 0, after, half
            if after == 0 and not half:
                self.silent.set()

    def wake(self):
        """Deliver what was said into the silence, as a machine does that was only stopped."""
        with self._lock:
            self.silent.clear()
            self._after = None
            held, self._held = self._held, []
        for sink, data in held:
            self._deliver(sink, data)

    def close(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        shutil.rmtree(self._folder)

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server))
            self._open += [client, server]
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._down, args=(server, client), daemon=True).start()

    def _up(self, client, server):
        """Cut the client's stream into messages: a letter (but for the first one), a length, a body."""
        with suppress(OSError):
            waiting, started = b"", False
            while data := client.recv(1 << 16):
                waiting += data
                while len(waiting) >= (head := 5 if started else 4):
                    length = int.from_bytes(waiting[head - 4 : head], "big") + head - 4
                    if len(waiting) < length:
                        break
                    self._forward(server, waiting[:length])
                    waiting, started = waiting[length:], True

    def _forward(self, server, message):
        with self._lock:
            if self.silent.is_set():
                self._held.append((server, message))
                return
            if self._after is not None and self.sent >= self._after:
                cut = max(1, len(message) // 2) if self._half else 0
                self._held.append((server, message[cut:]))
                self.silent.set()
                message = message[:cut]
            self.sent += bool(message)
        if message:
            server.sendall(message)

    def _down(self, server, client):
        data = b"?"
        while data:  # the last is the server's goodbye, which is held back like any word
            try:
                data = server.recv(1 << 16)
            except OSError:
                data = b""
            with self._lock:
                if self.silent.is_set():
                    self._held.append((client, data))
                    continue
            self._deliver(client, data)

    @staticmethod
    def _deliver(sink, data):
        with suppress(OSError):
            sink.sendall(data) if data else sink.shutdown(socket.SHUT_RDWR)
