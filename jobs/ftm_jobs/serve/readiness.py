"""Answers GET /ready for the kubelet: 200, or 503 and why not."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from ftm_jobs.runtime.os_errors import explain


class ReadinessServer(ThreadingHTTPServer):
    """Listens on all addresses, of IPv6 too where there is that."""

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)  # HTTPServer's own asks DNS for this host's name
        self.server_name, self.server_port = "", self.server_address[1]


@contextmanager
def readiness_server(port: int, unready: Callable[[], str | None]) -> Iterator[int]:
    """Serves at a port, or at a free one for 0, while the block runs; yields the port.

    `unready` returns why it is not ready; None when it is. Raises StepError where the port is not to be had.
    """

    class ReadinessHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/ready"
            reason = unready() if known else "not found"
            content = f"{reason or 'ready'}\n".encode()
            self.send_response(200 if reason is None else 503 if known else 404)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing: the kubelet asks every two seconds."""

    try:
        server = ReadinessServer(("", port), ReadinessHandler)
    except OSError as error:
        raise explain(error, f"port {port}", "give another --port") from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
