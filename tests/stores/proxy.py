"""A TCP proxy in front of a real server, which breaks or holds back what the server answers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

CHUNK_BYTES = 65536


class Proxy:
    """Counts the bytes that the server answers; from `hold_after` on it holds them back."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answered = 0
        self.cut_at: list[int] = []
        """Each time so many bytes have been answered, the connection that is answering breaks off."""
        self.cuts = 0
        self.hold_after: int | None = None
        self.holding = threading.Event()
        self.released = threading.Event()
        self._lock = threading.Lock()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._listener.close()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(CHUNK_BYTES):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(CHUNK_BYTES):
                with self._lock:
                    self.answered += len(data)
                    cut = bool(self.cut_at) and self.answered >= self.cut_at[0]
                    if cut:
                        self.cut_at.pop(0)
                        self.cuts += 1
                if cut:
                    client.shutdown(socket.SHUT_RDWR)
                    server.shutdown(socket.SHUT_RDWR)
                    return
                if self.hold_after is not None and self.answered >= self.hold_after:
                    self.holding.set()
                    self.released.wait()
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    found = Proxy(upstream)
    thread = threading.Thread(target=found.serve, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.close()
