"""Does what the end-to-end tests do again and again: apply, wait with the story printed, ask, look into the store."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ftm_jobs.contract.manifest import MANIFEST_NAME, Manifest
from ftm_operator.local.engine_client import EngineClient
from tests.cluster.kubectl import Kubectl
from tests.cluster.progress import say
from tests.cluster.service import reached
from tests.cluster.stack import OPERATOR_NAMESPACE, RELEASE, Stack
from tests.servers.seaweedfs import ARTIFACTS

Found = TypeVar("Found")
NAMESPACE = "team"
EXAMPLE = Path(__file__).parents[2] / "examples" / "cluster.yaml"
OPERATOR = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{RELEASE}"
CHILDREN = "jobs,deployments,replicasets,services,pods"
SECONDS = 1500
"""How long something may take: a machine that is busy with other things is no failure."""


@dataclass(frozen=True)
class Story:
    """A namespace of a running stack in which Pod Security is `restricted`."""

    stack: Stack
    namespace: str = NAMESPACE

    @property
    def kubectl(self) -> Kubectl:
        return self.stack.kubectl.within(self.namespace)

    def begin(self) -> None:
        self.stack.give_secrets(self.namespace)
        self.kubectl(
            "label", "namespace", self.namespace, "--overwrite", "pod-security.kubernetes.io/enforce=restricted"
        )

    def apply(self, manifest: dict[str, Any]) -> None:
        self.kubectl.apply(manifest)

    def get(self, name: str) -> dict[str, Any]:
        return self.kubectl.get("finetunedmodel", name)

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        return condition(self.get(name), kind)

    def await_phase(self, name: str, *phases: str) -> dict[str, Any]:
        """Waits for one of the phases, and tells each change of phase on the way."""
        told = ""

        def reached() -> dict[str, Any] | None:
            nonlocal told
            found = self.get(name)
            status = found["status"]
            ready = condition(found, "Ready").get("message", "")
            if (line := f"{name}: {status.get('phase')}: {ready}") != told:
                told = line
                say(line)
            current = status["observedGeneration"] == found["metadata"]["generation"]
            return found if current and status.get("phase") in phases else None

        return self.eventually(f"{name} is {' or '.join(phases)}", reached)

    def await_told(self, name: str, cause: str) -> None:
        """Waits until the resource is not ready and its message names the cause."""

        def told() -> bool:
            ready = self.condition(name, "Ready")
            return ready.get("status") == "False" and cause in ready["message"]

        self.eventually(f"{name} names {cause!r}", told)
        say(f"{name}: {self.condition(name, 'Ready')['message']}")

    def eventually(self, what: str, check: Callable[[], Found | None], seconds: float = SECONDS) -> Found:
        deadline = time.monotonic() + seconds
        while not (found := check()):
            self.stack.cluster.raise_for_dead()
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{self.evidence()}"
            time.sleep(0.5)
        return found

    def evidence(self) -> str:
        """Returns what a person would look at first."""
        operator = self.stack.kubectl.within(OPERATOR_NAMESPACE)
        return "\n".join(
            [
                self.kubectl("get", f"finetunedmodels,{CHILDREN}", "-o", "wide"),
                self.kubectl("get", "events"),
                operator("logs", f"deployment/{RELEASE}", "--tail=50"),
            ]
        )

    def give_claim(self, name: str, folder: Path) -> None:
        """A bound PersistentVolumeClaim whose files are in a folder of the node."""
        folder.mkdir(parents=True)
        (node,) = [each["metadata"]["name"] for each in self.kubectl.list("nodes")]
        own_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        shared = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
        volume = {
            "capacity": {"storage": "10Gi"},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [own_node]}]}},
            "claimRef": {"namespace": self.namespace, "name": name},
        }
        claim = {"volumeName": name, "resources": {"requests": {"storage": "10Gi"}}}
        self.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {**volume, **shared, "persistentVolumeReclaimPolicy": "Retain"},
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name},
                "spec": {**claim, **shared},
            },
        )

    def ready_pods(self, name: str) -> list[dict[str, Any]]:
        """The model's serving Pods that are Ready."""
        pods = self.kubectl.list("pods", "-l", f"ftm.dev/name={name},ftm.dev/step=serve")
        return [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]

    def ask(self, name: str, question: str) -> str:
        """The greedy answer through the model's Service."""
        address = reached(self.kubectl, name)
        answer = EngineClient(f"http://{address}", name).ask(question, most_tokens=64)
        say(f"{question} -> {answer}")
        return answer

    def kill_operator(self) -> None:
        """Kills the operator's process as a lost node would, and waits for the one that replaces it."""
        operator = self.stack.kubectl.within(OPERATOR_NAMESPACE)
        (pod,) = [
            each["metadata"]["name"] for each in operator.list("pods") if "deletionTimestamp" not in each["metadata"]
        ]
        operator("delete", "pod", pod, "--grace-period=0", "--force")
        say(f"killed {pod}")
        operator("rollout", "status", f"deployment/{RELEASE}", "--timeout=900s")

    def stored(self) -> list[str]:
        """The keys of all objects in the artifact store."""
        pages = self.stack.s3.client().get_paginator("list_objects_v2").paginate(Bucket=ARTIFACTS)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def unfinished_uploads(self) -> list[str]:
        listed = self.stack.s3.client().list_multipart_uploads(Bucket=ARTIFACTS)
        return [upload["Key"] for upload in listed.get("Uploads", [])]

    def manifest_of(self, key: str) -> Manifest:
        return Manifest.model_validate_json(self.read(f"built/{key}/{MANIFEST_NAME}"))

    def read(self, key: str) -> bytes:
        return self.stack.s3.client().get_object(Bucket=ARTIFACTS, Key=key)["Body"].read()


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    """Returns a condition of a resource, empty where it has none."""
    conditions = found.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def manifest(name: str = "support-bot", **spec: Any) -> dict[str, Any]:
    """examples/cluster.yaml under another name, with parts of its spec replaced."""
    example: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    example["metadata"]["name"] = name
    example["spec"].update(spec)
    return example
