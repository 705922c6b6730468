"""A real Prometheus, which Debian has, on this machine."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftm_operator.local.processes import running
from tests.cluster import debian
from tests.cluster.kubelet import eventually
from tests.cluster.processes import free_ports
from tests.servers.health import is_up

START_SECONDS = 300
STOP_SECONDS = 10


@contextmanager
def prometheus(
    folder: Path, jobs: Sequence[dict[str, Any]], *, address: str = "127.0.0.1", interval: str = "1s"
) -> Iterator[str]:
    """Reads these scrape configs at every interval. Its files are in a folder that is there.

    Raises Unavailable where it is neither installed nor can be.
    """
    debian.ensure_programs(("prometheus",), "a real Prometheus")
    (port,) = free_ports(1, address)
    configuration = folder / "prometheus.yml"
    configuration.write_text(json.dumps({"global": {"scrape_interval": interval}, "scrape_configs": list(jobs)}))
    command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={address}:{port}"]
    url, said = f"http://{address}:{port}", folder / "prometheus.log"
    with said.open("w") as log, running(command, STOP_SECONDS, stdout=log, stderr=log) as process:

        def is_ready() -> bool:
            assert process.poll() is None, said.read_text()
            return is_up(f"{url}/-/ready")

        eventually("Prometheus", is_ready, START_SECONDS)
        yield url
