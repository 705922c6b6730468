"""LeaderWorkerSet without its controller: what the controller would do, as told."""

import json
from dataclasses import dataclass
from typing import Any

from tests.cluster.kubectl import Kubectl


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
