"""Forwards a port of this machine to a Service of the cluster, by kubectl."""

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

from ftm_operator.local.errors import LocalError
from ftm_operator.local.processes import running

STOP_SECONDS = 5
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) -> ")


@contextlib.contextmanager
def forwarded(namespace: str, service: str, port: int) -> Iterator[str]:
    """Yields an address of this machine that leads to one pod of the Service while the block lasts.

    Raises LocalError with kubectl's own words.
    """
    kubectl = shutil.which("kubectl")
    if not kubectl:
        raise LocalError(
            f"kubectl, which forwards a port to {service}, is not on PATH; install it, or forward a port by other "
            "means and name its URL"
        )
    target = [f"service/{service}", f":{port}", "--address", "127.0.0.1", "--namespace", namespace]
    with (
        tempfile.TemporaryFile("w+") as log,
        running(
            [kubectl, "port-forward", *target], STOP_SECONDS, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout
        line = process.stdout.readline()
        found = _FORWARDING.match(line)
        if not found:
            process.wait()
            log.seek(0)
            said = " ".join(log.read().split()) or f"it printed {line!r}"
            raise LocalError(f"kubectl forwards no port to service {namespace}/{service}: {said}")
        yield f"http://127.0.0.1:{found[1]}"
