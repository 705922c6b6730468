"""Plays the kubelet where there is a control plane but no node: no pod runs, but each ends as told."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ftm_jobs.contract.report import Report
from tests.cluster.kubectl import Kubectl, KubectlError

SECONDS = 300
"""A machine that is busy with other things is no failure."""
CHILDREN = ("jobs", "deployments", "services", "poddisruptionbudgets", "pods", "replicasets", "controllerrevisions")
Found = TypeVar("Found")


def eventually(what: str, check: Callable[[], Found | None], seconds: float = SECONDS) -> Found:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return found


@contextmanager
def emptied(inside: Kubectl) -> Iterator[Kubectl]:
    """Yields a namespace whose models and children are gone when the block has ended."""
    yield inside
    inside("delete", "finetunedmodels", "--all", "--wait")
    inside("delete", "deployments,jobs,pods", "--all", "--force", "--wait=false")
    eventually("no children", lambda: not inside.list("deployments") and not inside.list("pods"))


@dataclass
class Kubelet:
    """Stands in for the kubelet in one namespace."""

    kubectl: Kubectl

    def end(self, step: str, told: Report, *, beside: str | None = None) -> None:
        """The newest unfinished pod of a step ends with a report."""
        self.ends(eventually(f"an unfinished {step} pod", lambda: self._unfinished(step)), step, told, beside)

    def ends(self, pod: str, step: str, told: Report, beside: str | None = None) -> None:
        """This pod of a step ends with a report, but for the container `beside` it, which goes on."""
        code = int(told.exit_code)
        state = {
            "terminated": {
                "exitCode": code,
                "message": told.termination_message(),
                "startedAt": "2026-01-01T00:00:00Z",
                "finishedAt": "2026-01-01T00:00:01Z",
            }
        }
        ended = {"name": step, "state": state}
        if beside:
            self._set_status(pod, "Running", {"name": beside, "state": {"running": {}}}, ended)
        else:
            self._set_status(pod, "Failed" if code else "Succeeded", ended)

    def ready(self) -> None:
        """All serving pods answer, but for those that are replaced at this moment."""
        for pod in eventually("serving pods", lambda: self._pods("serve")):
            try:
                self.answers(pod["metadata"]["name"])
            except KubectlError as error:
                if "NotFound" not in str(error):
                    raise

    def answers(self, pod: str) -> None:
        """This serving pod answers."""
        self._set_status(pod, "Running", {"name": "vllm", "ready": True, "state": {"running": {}}}, ready=True)

    def starts(self) -> str:
        """The name of the serving pod that has not been heard of yet."""
        return eventually("a new serving pod", lambda: self._unfinished("serve"))

    def crash(self, pod: str, last_words: str) -> None:
        """The engine of a serving pod failed, and will be started again."""
        ended = {
            "exitCode": 1,
            "reason": "Error",
            "message": last_words,
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:01Z",
        }
        states = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}}
        self._set_status(pod, "Running", {"name": "vllm", "restartCount": 1, **states})

    def kill(self, step: str) -> None:
        """The newest unfinished pod of a step used up its memory."""
        name = eventually(f"an unfinished {step} pod", lambda: self._unfinished(step))
        ended = {
            "exitCode": 137,
            "reason": "OOMKilled",
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:01Z",
        }
        self._set_status(name, "Failed", {"name": step, "state": {"terminated": ended}})

    def running(self, step: str) -> str:
        """The newest unfinished pod of a step runs now; its name."""
        name = eventually(f"an unfinished {step} pod", lambda: self._unfinished(step))
        self._set_status(name, "Running", {"name": step, "state": {"running": {}}})
        return name

    def _pods(self, step: str) -> list[dict[str, Any]]:
        return self.kubectl.list("pods", "-l", f"ftm.dev/step={step}")

    def _unfinished(self, step: str) -> str | None:
        return next((p["metadata"]["name"] for p in self._pods(step) if p["status"]["phase"] == "Pending"), None)

    def _set_status(self, name: str, phase: str, *containers: dict[str, Any], ready: bool = False) -> None:
        blank = {"image": "", "imageID": "", "ready": False, "restartCount": 0}
        conditions = [{"type": "Ready", "status": "True"}] if ready else []
        status = {"phase": phase, "containerStatuses": [blank | each for each in containers], "conditions": conditions}
        patch = json.dumps({"status": status})
        self.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "-p", patch)


def children(kubectl: Kubectl) -> list[str]:
    labelled = "-l", "app.kubernetes.io/managed-by=ftm-operator"
    return [item["metadata"]["name"] for kind in CHILDREN for item in kubectl.list(kind, *labelled)]


def get(kubectl: Kubectl, name: str = "support-bot") -> dict[str, Any]:
    return kubectl.get("finetunedmodel", name)


def await_phase(kubectl: Kubectl, phase: str, name: str = "support-bot") -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        found = get(kubectl, name)
        current = found["status"].get("observedGeneration") == found["metadata"]["generation"]
        return found if current and found["status"].get("phase") == phase else None

    return eventually(f"{name} is {phase}", reached)
