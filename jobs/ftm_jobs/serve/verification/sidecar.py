"""Holds an engine against the reference each time that it starts, and tells a pod's probe whether it may be asked.

    GET /ready   200 once the engine is up and is what was verified, or policy is Warn; else 503 with the reason

The verdict of each start is a line of stdout. An engine that could not be measured is measured again, after longer and
longer; one that differs is what it is until it starts anew.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ftm_jobs.contract.verification import ServedVerification
from ftm_jobs.errors import Reason
from ftm_jobs.serve.verification.engines import Engine, EngineAway

POLL_SECONDS = 1.0
"""Less than any engine takes to start, so that no start goes unseen."""
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 300.0
STARTING = "the engine is starting"
MEASURED_SOON = "the engine is being held against what was verified"

_LOG = logging.getLogger(__name__)


class EngineWatch:
    """Knows what was measured of the engine that runs now."""

    def __init__(
        self,
        engine: Engine,
        measure: Callable[[], ServedVerification],
        say: Callable[[str], None],
        *,
        warn_only: bool,
    ) -> None:
        """`measure` may raise EngineAway; `say` takes each verdict as a line."""
        self._engine = engine
        self._measure = measure
        self._say = say
        self._warn_only = warn_only
        self._retry_at = 0.0
        self._retry_seconds = FIRST_RETRY_SECONDS
        self.verdict: ServedVerification | None = None
        """That of the engine that runs now."""
        self.why_not: str | None = STARTING
        """The reason why the engine may not be asked; None where it may."""

    def look(self, now: float) -> None:
        """Looks after the engine once; `now` is in seconds of any clock that only goes on."""
        up = self._engine.is_up()
        if up is None:  # busy: it answers late
            return
        if not up:
            self._forget()
            return
        if self.verdict is None:
            self.why_not = MEASURED_SOON
        elif not self._is_due(now):
            return
        try:
            verdict = self._measure()
        except EngineAway as error:
            _LOG.info("the engine went away while it was measured: %s", error)
            self._forget()
            return
        self._take(verdict, now)

    def _take(self, verdict: ServedVerification, now: float) -> None:
        if verdict.reason == Reason.SERVED_UNPROVEN:
            self._retry_at = now + self._retry_seconds
            self._retry_seconds = min(2 * self._retry_seconds, LONGEST_RETRY_SECONDS)
        if self.verdict is None or (verdict.reason, verdict.message) != (self.verdict.reason, self.verdict.message):
            self._say(verdict.line())
        self.verdict = verdict
        self.why_not = None if verdict.passed or self._warn_only else verdict.message

    def _is_due(self, now: float) -> bool:
        return self.verdict is not None and self.verdict.reason == Reason.SERVED_UNPROVEN and now >= self._retry_at

    def _forget(self) -> None:
        self.verdict, self.why_not, self._retry_seconds = None, STARTING, FIRST_RETRY_SECONDS


def watch_forever(watch: EngineWatch, port: int) -> None:
    """Looks after an engine, and answers the probe at `port` of all addresses, until a signal ends the process."""
    with _answering(watch, port):
        while True:
            watch.look(time.monotonic())
            time.sleep(POLL_SECONDS)


@contextmanager
def _answering(watch: EngineWatch, port: int) -> Iterator[None]:
    class Probe(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            why_not = watch.why_not if self.path == "/ready" else f"{self.path} is not here: ask for /ready"
            text = (why_not or "ready").encode()
            self.send_response(200 if why_not is None else 404 if self.path != "/ready" else 503)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Keeps each probe out of the log."""

    server = ThreadingHTTPServer(("", port), Probe)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
