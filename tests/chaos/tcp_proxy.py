"""A proxy for a database's connections that cuts them: all at once, or at a word of a statement."""

import socket
import threading
from contextlib import suppress


class Proxy:
    def __init__(self, target_port):
        self.target_port = target_port
        self.server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.server.getsockname()[1]
        self.cuts = 0
        self._pairs = set()
        self._lock = threading.Lock()
        self._word = None
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """End all connections, in the middle of whatever they do."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)

    def cut_at(self, word, *, forward):
        """End the next connection that says `word`; if `forward`, the server still hears it."""
        self._word = (word, forward)

    def armed(self):
        return self._word is not None

    def disarm(self):
        self._word = None

    def close(self):
        self._closed = True
        self.server.close()
        self.cut()

    def _accept(self):
        while not self._closed:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        threading.Thread(target=self._pump, args=(server, client, pair), daemon=True).start()
        self._pump(client, server, pair, from_client=True)

    def _pump(self, source, sink, pair, *, from_client=False):
        with suppress(OSError):
            while data := source.recv(65536):
                word = self._word
                if from_client and word is not None and word[0] in data:
                    self._word = None
                    self.cuts += 1
                    if word[1]:
                        # The server does it and its answer finds nobody.
                        pair[0].shutdown(socket.SHUT_RDWR)
                        sink.sendall(data)
                        sink.recv(1)
                    break
                sink.sendall(data)
        self._end(pair)

    def _end(self, pair):
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
