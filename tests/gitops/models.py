"""The models of the GitOps stories, and what happens to them where there is no node."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ftm_jobs.contract.steps import Step
from tests.cluster.kubectl import Kubectl, KubectlError
from tests.cluster.kubelet import Kubelet, eventually, get
from tests.unit.operator.objects import NAME, facts, merged_report, refusal, report, resource, verified_report

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "gitops.md"
BUCKET_NOT_FOUND = 's3://modles/base: bucket "modles" does not exist; correct the URI, or create the bucket'


def documented(kind: str) -> dict[str, Any]:
    """The manifest of a kind that the page on GitOps shows."""
    shown = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return next(manifest for block in shown if (manifest := yaml.safe_load(block))["kind"] == kind)


def model(name: str = NAME, **spec: Any) -> dict[str, Any]:
    """A manifest as people keep it in git: no namespace, and nothing that the CRD defaults."""
    return {**resource(name, **spec), "metadata": {"name": name}}


def serve(kubectl: Kubectl, name: str = NAME) -> None:
    """Has every step that runs end well, and every replica answer, until the model is Ready."""
    kubelet = Kubelet(kubectl)
    reports = {
        "inspect": report(Step.INSPECT, "Inspected", facts=facts()),
        "merge": merged_report(),
        "verify": verified_report(),
    }

    def served() -> bool:
        for step, told in reports.items():
            if waiting(kubectl, step):
                kubelet.end(step, told)
        for pod in waiting(kubectl, "serve"):
            with suppress(KubectlError):  # a rollout may have deleted it meanwhile
                kubelet.answers(pod)
        found = get(kubectl, name)
        current = found["status"].get("observedGeneration") == found["metadata"]["generation"]
        return bool(current and found["status"].get("phase") == "Ready")

    eventually(f"{name} is Ready", served)


def waiting(kubectl: Kubectl, step: str) -> list[str]:
    """The names of a step's pods that no kubelet has taken up."""
    pods = kubectl.list("pods", "-l", f"ftm.dev/step={step}")
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Pending"]


def refuse_inspection(kubectl: Kubectl) -> None:
    Kubelet(kubectl).end("inspect", refusal(Step.INSPECT, "BucketNotFound", BUCKET_NOT_FOUND))


def operator_answers(kubectl: Kubectl, pod: str) -> None:
    """Has the pod of the chart's Deployment be ready."""
    container = {"name": "operator", "image": "", "imageID": "", "ready": True, "restartCount": 0}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [container | {"state": {"running": {}}}],
    }
    kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


def autoscaler(replicas: int, name: str = NAME) -> dict[str, Any]:
    """A HorizontalPodAutoscaler that no metric moves from its fewest replicas."""
    target = {"apiVersion": "ftm.dev/v1alpha1", "kind": "FineTunedModel", "name": name}
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": target, "minReplicas": replicas, "maxReplicas": replicas + 1, "metrics": [cpu]},
    }
