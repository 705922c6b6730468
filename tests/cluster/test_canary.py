"""Versions and canaries on a real API server: routes, Deployments, ControllerRevisions, and what it refuses.

The Gateway API's own CRDs are there; no gateway is: the test takes up routes, as a gateway's controller would.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ftm_jobs.contract.steps import Step
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl, KubectlError
from tests.cluster.kubelet import Kubelet, await_phase, emptied, eventually, get
from tests.cluster.module_crds import HTTP_ROUTES
from tests.cluster.operator_process import OperatorProcess, operator_process
from tests.unit.operator.objects import facts, merged_report, report, resource, verified_report

NAMESPACE = "canary-test"
NAME = "support-bot"
GATEWAY = {"name": "public", "hostnames": ["models.example.com"]}
STEPS = [{"weight": 10, "pauseSeconds": 2}, {"weight": 50}]
SERVING = {"strategy": "Canary", "gateway": GATEWAY, "canary": {"steps": STEPS}}


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    folder = tmp_path_factory.mktemp("canary")
    with (
        HTTP_ROUTES.installed(control_plane.kubectl),
        operator_process(control_plane, NAMESPACE, folder) as process,
    ):
        process.start()
        yield process


@pytest.fixture
def kubectl(operator: OperatorProcess) -> Iterator[Kubectl]:
    with emptied(operator.control_plane.kubectl.within(NAMESPACE)) as inside:
        yield inside


def manifest(**serving: Any) -> dict[str, Any]:
    made = resource(serving={**SERVING, **serving})
    return {**made, "metadata": {"name": NAME, "namespace": NAMESPACE}}


def serve(kubectl: Kubectl) -> Kubelet:
    kubelet = Kubelet(kubectl)
    kubectl.apply(manifest())
    kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=facts()))
    kubelet.end("merge", merged_report())
    kubelet.end("verify", verified_report())
    kubelet.answers(kubelet.starts())
    await_phase(kubectl, "Ready")
    gateway_follows(kubectl)
    return kubelet


def gateway_follows(kubectl: Kubectl) -> None:
    """A gateway's controller takes up the route as it is now."""
    seen = kubectl.get("httproute", NAME)["metadata"]["generation"]
    conditions = [
        {
            "type": name,
            "status": "True",
            "reason": name,
            "message": "",
            "observedGeneration": seen,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for name in ("Accepted", "ResolvedRefs")
    ]
    parent = {"parentRef": {"name": "public"}, "controllerName": "test/gateway", "conditions": conditions}
    body = json.dumps({"status": {"parents": [parent]}})
    kubectl("patch", "httproute", NAME, "--subresource=status", "--type=merge", "-p", body)


def canary_answers(kubectl: Kubectl, kubelet: Kubelet) -> None:
    pods = eventually("a pod of the canary", lambda: kubectl.list("pods", "-l", "ftm.dev/step=canary"))
    kubelet.answers(pods[-1]["metadata"]["name"])


def progress(kubectl: Kubectl) -> tuple[str, int] | None:
    canary = get(kubectl)["status"].get("canary")
    return (canary["state"], canary["step"]) if canary else None


def await_progress(kubectl: Kubectl, state: str, step: int) -> None:
    eventually(f"{state}, step {step}", lambda: progress(kubectl) == (state, step))


def weights(kubectl: Kubectl) -> list[tuple[str, int]]:
    (rule,) = kubectl.get("httproute", NAME)["spec"]["rules"]
    return [(each["name"], each["weight"]) for each in rule["backendRefs"]]


def versions(kubectl: Kubectl) -> list[tuple[str, int | None]]:
    return [(each["state"], each.get("weight")) for each in get(kubectl)["status"]["versions"]]


def key(kubectl: Kubectl, state: str) -> str:
    return next(str(each["key"]) for each in get(kubectl)["status"]["versions"] if each["state"] == state)


def arguments(kubectl: Kubectl) -> list[str]:
    pod = kubectl.get("deployment", NAME)["spec"]["template"]["spec"]
    return list(pod["containers"][0]["args"])


def annotate(kubectl: Kubectl, change: str) -> None:
    kubectl("annotate", "finetunedmodel", NAME, f"ftm.dev/{change}", "--overwrite")


def is_gone(kubectl: Kubectl) -> bool:
    there = [each["metadata"]["name"] for kind in ("deployments", "services") for each in kubectl.list(kind)]
    return f"{NAME}-canary" not in there


def test_from_the_first_request_to_all_of_them_and_back(kubectl: Kubectl, operator: OperatorProcess) -> None:
    kubelet = serve(kubectl)
    kubectl.apply(manifest(extraArgs=["--seed", "1"]))
    await_progress(kubectl, "Starting", 0)
    assert weights(kubectl) == [(NAME, 1)]
    canary_answers(kubectl, kubelet)
    await_progress(kubectl, "Sharing", 0)
    assert weights(kubectl) == [(NAME, 90), (f"{NAME}-canary", 10)]
    gateway_follows(kubectl)
    await_progress(kubectl, "Sharing", 1)
    assert weights(kubectl) == [(NAME, 50), (f"{NAME}-canary", 50)]
    gateway_follows(kubectl)
    eventually("the step has begun", lambda: "since" in get(kubectl)["status"]["canary"])
    assert versions(kubectl) == [("Canary", 50), ("Serving", 50)]
    assert "gets 50 percent of the requests, step 2 of 2" in kubectl("get", "ftm", NAME, "-o", "wide")

    audit = operator.control_plane.audit
    before = operator.control_plane.quiet(operator.user)
    time.sleep(operator.resync_seconds * 3)
    assert [event["requestURI"] for event in audit(operator.user)[before:]] == []

    operator.kill()
    annotate(kubectl, f"promote={key(kubectl, 'Canary')}/1")
    operator.start()
    await_progress(kubectl, "Replacing", 1)
    assert arguments(kubectl)[-1] == "1"
    kubelet.answers(kubelet.starts())
    await_progress(kubectl, "Leaving", 1)
    assert weights(kubectl) == [(NAME, 1)]
    gateway_follows(kubectl)
    eventually("the canary is gone", lambda: is_gone(kubectl))
    await_phase(kubectl, "Ready")
    assert versions(kubectl) == [("Serving", 100), ("Kept", None)]
    assert len(kubectl.list("controllerrevisions")) == 2

    first = key(kubectl, "Kept")
    annotate(kubectl, f"serve-version={first}")
    kubelet.answers(kubelet.starts())
    eventually("the first version serves", lambda: key(kubectl, "Serving") == first)
    assert "--seed" not in arguments(kubectl)
    await_phase(kubectl, "Ready")
    numbers = {each["metadata"]["name"]: each["revision"] for each in kubectl.list("controllerrevisions")}
    assert max(numbers, key=lambda name: numbers[name]) == f"{NAME}-{first}"
    before = operator.control_plane.quiet(operator.user)
    time.sleep(operator.resync_seconds * 3)
    assert [event["requestURI"] for event in audit(operator.user)[before:]] == []


def test_a_canary_that_crashes_is_rolled_back_and_leaves_no_version(kubectl: Kubectl) -> None:
    serve(kubectl)
    kubectl.apply(manifest(extraArgs=["--seed", "1"]))
    pods = eventually("a pod of the canary", lambda: kubectl.list("pods", "-l", "ftm.dev/step=canary"))
    looping = {
        "name": "vllm",
        "image": "",
        "imageID": "",
        "ready": False,
        "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "CUDA error"}},
    }
    body = json.dumps({"status": {"phase": "Running", "containerStatuses": [looping]}})
    kubectl("patch", "pod", pods[0]["metadata"]["name"], "--subresource=status", "--type=merge", "-p", body)
    eventually("it is rolled back", lambda: ("RolledBack", None) in versions(kubectl))
    gateway_follows(kubectl)
    eventually("the canary is gone", lambda: is_gone(kubectl))
    assert versions(kubectl) == [("Serving", 100), ("RolledBack", None)]
    assert len(kubectl.list("controllerrevisions")) == 1
    assert "--seed" not in arguments(kubectl)
    kubectl.apply(manifest())
    await_phase(kubectl, "Ready")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"serving": {"strategy": "Canary"}}, "write gateway, or set strategy to Auto"),
        (
            {"serving": {**SERVING, "gateway": {**GATEWAY, "inferencePool": {"endpointPickerRef": {"name": "epp"}}}}},
            "remove gateway.inferencePool, or set strategy to Auto",
        ),
        ({"mode": "Dynamic", "serving": SERVING}, "set serving.strategy to Auto where mode or preview is Dynamic"),
        (
            {"serving": {**SERVING, "canary": {"steps": [{"weight": 50}, {"weight": 10}]}}},
            "write the steps by rising weight",
        ),
    ],
)
def test_the_api_server_refuses_by_name_what_a_canary_cannot_do(
    kubectl: Kubectl, spec: dict[str, Any], why: str
) -> None:
    with pytest.raises(KubectlError, match=why):
        kubectl.apply({**resource(**spec), "metadata": {"name": NAME, "namespace": NAMESPACE}})
