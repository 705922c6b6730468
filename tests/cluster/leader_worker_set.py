"""LeaderWorkerSet without its controller: the CRD as its Go module has it, and what the controller would do, as told.

The module comes through Go's own proxy at a pinned version and checksum; its CRD is kept in the user's cache.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cache import cache
from tests.cluster.go_programs import go_program
from tests.cluster.kubectl import Kubectl
from tests.cluster.locks import alone
from tests.cluster.progress import step

MODULE, VERSION = "sigs.k8s.io/lws", "v0.7.0"
CHECKSUM = "h1:qWfzX8+UBak+Hq0+m/PuE3uO0mp/3dmm5q/h/7z31A8="
"""The digest of the module, as go.sum has it."""
FILE = "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml"
NAME = "leaderworkersets.leaderworkerset.x-k8s.io"
GO = "1.24.0"


def crd() -> Path:
    """Fetched on first use. Raises RuntimeError when it cannot be had, or is not what was pinned."""
    kept = cache("crds", f"lws-{VERSION}.yaml")
    if kept.exists():
        return kept
    with alone("crds", "another download to end"), step(f"fetching {MODULE} {VERSION}"):
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            aside = kept.with_suffix(f".{os.getpid()}")
            shutil.copyfile(_module() / FILE, aside)
            aside.replace(kept)
    return kept


def _module() -> Path:
    command: list[str | Path] = [go_program(GO), "mod", "download", "-json", f"{MODULE}@{VERSION}"]
    kept = cache("crds")
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    done = subprocess.run(command, cwd=kept, env=environment, capture_output=True, text=True)
    found = json.loads(done.stdout) if done.stdout else {"Error": done.stderr.strip()}
    if error := found.get("Error"):
        raise RuntimeError(f"go could not download {MODULE}@{VERSION}: {error}")
    if found["Sum"] != CHECKSUM:
        raise RuntimeError(f"{MODULE}@{VERSION} has the checksum {found['Sum']}, and {CHECKSUM} is pinned")
    return Path(found["Dir"])


@dataclass
class GroupController:
    """Stands in for the controller of one LeaderWorkerSet: makes its pods and writes its status, both when told."""

    kubectl: Kubectl
    name: str

    def get(self) -> dict[str, Any]:
        return self.kubectl.get("leaderworkerset", self.name)

    def make_group(self, group: int) -> None:
        """A pod for each node, labelled and named as LeaderWorkerSet does."""
        template = self.get()["spec"]["leaderWorkerTemplate"]
        leader = f"{self.name}-{group}"
        self._create(leader, template["leaderTemplate"], group, 0)
        for index in range(1, template["size"]):
            self._create(f"{leader}-{index}", template["workerTemplate"], group, index)

    def all_ready(self, groups: int) -> None:
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), groups)
        available = {
            "type": "Available",
            "status": "True",
            "reason": "AllGroupsReady",
            "message": "All replicas are ready",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        patch = json.dumps({"status": {**counts, "conditions": [available]}})
        self.kubectl("patch", "leaderworkerset", self.name, "--subresource=status", "--type=merge", "-p", patch)

    def _create(self, pod: str, template: dict[str, Any], group: int, index: int) -> None:
        prefix = "leaderworkerset.sigs.k8s.io"
        labels = {
            f"{prefix}/name": self.name,
            f"{prefix}/group-index": str(group),
            f"{prefix}/worker-index": str(index),
        }
        metadata = {**template["metadata"], "name": pod, "labels": {**template["metadata"]["labels"], **labels}}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        self.kubectl.create(manifest)
