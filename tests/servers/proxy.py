"""A TCP proxy in front of a real server, which breaks, delays, refuses or holds back what the server answers."""

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

CHUNK_BYTES = 65536
METHODS = (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")


class Proxy:
    """Counts connections, and the bytes that the server is sent and answers.

    Requests for ranges from `hold_from` on are held back.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.sent = 0
        self.answered = 0
        self.cut_at: list[int] = []
        """Each time so many bytes have been answered, the connection that is answering breaks off."""
        self.cuts = 0
        self.reset = False
        """A connection that breaks off is reset, instead of ended."""
        self.refusals: list[tuple[str, str] | None] = []
        """Statuses and codes with which the next requests are refused; those at None pass."""
        self.refuse_after: tuple[int, str, str] | None = None
        """Bytes after whose answer every request is refused, with a status and a code."""
        self.refuse_copies: tuple[str, str] | None = None
        """Status and code with which requests to copy an object are refused."""
        self.refused = 0
        self.delay_seconds = 0.0
        """Before each piece of an answer."""
        self.hold_from: int | None = None
        """The byte of an object from which on its ranges are not asked for until `released`."""
        self.holding = threading.Event()
        self.released = threading.Event()
        self._lock = threading.Lock()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._upstream)
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._listener.close()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(CHUNK_BYTES):
                if data.startswith(METHODS) and (refusal := self._refusal(data)):
                    _refuse(client, *refusal)
                    server.close()
                    return
                if self._is_held(data):
                    self.holding.set()
                    self.released.wait()
                with self._lock:
                    self.sent += len(data)
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _is_held(self, request: bytes) -> bool:
        first = re.search(rb"\r\nrange: *bytes=([0-9]+)-", request, re.IGNORECASE)
        return self.hold_from is not None and first is not None and int(first[1]) >= self.hold_from

    def _refusal(self, request: bytes) -> tuple[str, str] | None:
        with self._lock:
            found = self.refusals.pop(0) if self.refusals else None
            if self.refuse_after and self.answered >= self.refuse_after[0]:
                found = self.refuse_after[1:]
            if self.refuse_copies and b"x-amz-copy-source" in request.lower():
                found = self.refuse_copies
            self.refused += found is not None
            return found

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(CHUNK_BYTES):
                with self._lock:
                    self.answered += len(data)
                    cut = bool(self.cut_at) and self.answered >= self.cut_at[0]
                    if cut:
                        self.cut_at.pop(0)
                        self.cuts += 1
                if cut and self.reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.shutdown(socket.SHUT_RD)
                    client.close()
                    server.close()
                    return
                if cut:
                    client.shutdown(socket.SHUT_RDWR)
                    server.shutdown(socket.SHUT_RDWR)
                    return
                time.sleep(self.delay_seconds)
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


def _refuse(client: socket.socket, status: str, code: str) -> None:
    """As an S3 server does; the connection ends with it."""
    body = f"<Error><Code>{code}</Code><Message>by the proxy</Message></Error>".encode()
    headers = "Content-Type: application/xml", f"Content-Length: {len(body)}", "Connection: close"
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""])
    client.sendall(head.encode() + body)
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
