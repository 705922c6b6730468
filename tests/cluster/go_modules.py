"""Go modules as they are published, fetched through Go's own proxy at a pinned version and checksum."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cache import cache
from tests.cluster.go_programs import go_program

GO = "1.24.0"


@dataclass(frozen=True)
class GoModule:
    """A module at one version."""

    path: str
    version: str
    checksum: str
    """The digest of the module, as go.sum has it."""

    def folder(self) -> Path:
        """Its files, fetched on first use. Raises RuntimeError when they cannot be had, or are not what was pinned."""
        at = f"{self.path}@{self.version}"
        where = cache("crds")
        where.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": ""}
        command: list[str | Path] = [go_program(GO), "mod", "download", "-json", at]
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
        found = json.loads(done.stdout) if done.stdout else {"Error": done.stderr.strip()}
        if error := found.get("Error"):
            raise RuntimeError(f"go could not download {at}: {error}")
        if found["Sum"] != self.checksum:
            raise RuntimeError(f"{at} has the checksum {found['Sum']}, and {self.checksum} is pinned")
        return Path(found["Dir"])


GATEWAY_API = GoModule("sigs.k8s.io/gateway-api", "v1.6.3", "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=")
KEDA = GoModule("github.com/kedacore/keda/v2", "v2.21.0", "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=")
LEADER_WORKER_SET = GoModule("sigs.k8s.io/lws", "v0.7.0", "h1:qWfzX8+UBak+Hq0+m/PuE3uO0mp/3dmm5q/h/7z31A8=")
