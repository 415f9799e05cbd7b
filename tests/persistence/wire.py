"""A wire between a client and PostgreSQL that can be cut where it hurts."""

import shutil
import socket
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SOCKET = ".s.PGSQL.5432"
COMMIT = b"COMMIT\0"


class Wire:
    """Relay a server's unix socket. `fault` is what happens next:

    before_commit  the connection breaks when COMMIT is about to be sent
    after_commit   COMMIT is delivered and done, its answer lost
    frozen         whatever is sent from now on, nothing comes back
    """

    def __init__(self, url: str) -> None:
        self.fault = ""
        self.cuts = 0
        self._server = Path(parse_qs(urlsplit(url).query)["host"][0]) / SOCKET
        self._folder = Path(tempfile.mkdtemp(prefix="wire-"))
        self.url = url.replace(str(self._server.parent), str(self._folder))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / SOCKET))
        self._listener.listen()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            each.close()
        shutil.rmtree(self._folder)

    def cut_all(self) -> None:
        """Break every connection there is."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server))
            self._open += [client, server]
            threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
            threading.Thread(target=self._to_client, args=(server, client), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if COMMIT in data and self.fault == "before_commit":
                    self.cuts += 1
                    break
                server.sendall(data)
                if COMMIT in data and self.fault == "after_commit":
                    self.cuts += 1
                    time.sleep(0.1)  # it is done by then, and its answer has gone nowhere
                    break
        self._shut(client, server)

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if self.fault == "frozen" or (self.fault == "after_commit" and b"COMMIT" in data):
                    continue
                client.sendall(data)
        self._shut(client, server)

    def _shut(self, *sockets: socket.socket) -> None:
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
