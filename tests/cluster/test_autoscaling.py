"""The number of replicas on a real API server: handed over without being reset, and left to whoever scales.

KEDA's and the Gateway API's own CRDs are there; their controllers are not: the test scales, as KEDA would.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ftm_jobs.contract.steps import Step
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl, KubectlError
from tests.cluster.kubelet import Kubelet, await_phase, emptied, eventually, get
from tests.cluster.module_crds import HTTP_ROUTES, SCALED_OBJECTS, is_established
from tests.cluster.operator_process import OperatorProcess, operator_process
from tests.unit.operator.objects import facts, merged_report, report, resource, verified_report

NAMESPACE = "autoscaling-test"
NAME = "support-bot"
SCALING = {"maxReplicas": 6, "prometheus": "http://prometheus.monitoring:9090"}
STRING, OBJECT = {"type": "string"}, {"type": "object"}
PORT = {**OBJECT, "properties": {"number": {"type": "integer"}}}
POOL: dict[str, Any] = {
    "selector": {**OBJECT, "properties": {"matchLabels": {**OBJECT, "additionalProperties": STRING}}},
    "targetPorts": {"type": "array", "items": PORT},
    "endpointPickerRef": {
        **OBJECT,
        "required": ["name"],
        "properties": {
            "group": {**STRING, "default": ""},
            "kind": {**STRING, "default": "Service"},
            "name": STRING,
            "port": PORT,
            "failureMode": {**STRING, "default": "FailClose"},
        },
    },
}
"""The spec of an InferencePool, as the Inference Extension documents it; its module cannot be had."""


def pools() -> dict[str, Any]:
    spec = {**OBJECT, "required": sorted(POOL), "properties": POOL}
    schema = {
        **OBJECT,
        "properties": {"spec": spec, "status": {**OBJECT, "x-kubernetes-preserve-unknown-fields": True}},
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    approved = {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api-inference-extension"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "inferencepools.inference.networking.k8s.io", "annotations": approved},
        "spec": {
            "group": "inference.networking.k8s.io",
            "names": {"kind": "InferencePool", "listKind": "InferencePoolList", "plural": "inferencepools"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """Runs with KEDA's kinds, the Gateway API's and the Inference Extension's."""
    admin, name = control_plane.kubectl, pools()["metadata"]["name"]
    with ExitStack() as stack:
        for crd in (SCALED_OBJECTS, HTTP_ROUTES):
            stack.enter_context(crd.installed(admin))
        admin.apply(pools())
        stack.callback(admin.delete, "crd", name)
        eventually("InferencePools", lambda: is_established(admin, name))
        folder = tmp_path_factory.mktemp("autoscaling")
        process = stack.enter_context(operator_process(control_plane, NAMESPACE, folder))
        process.start()
        yield process


@pytest.fixture
def kubectl(operator: OperatorProcess) -> Iterator[Kubectl]:
    with emptied(operator.control_plane.kubectl.within(NAMESPACE)) as inside:
        yield inside


def serve(kubectl: Kubectl, **serving: Any) -> Kubelet:
    kubelet = Kubelet(kubectl)
    metadata = {"name": NAME, "namespace": NAMESPACE}
    kubectl.apply({**resource(serving=serving), "metadata": metadata})
    kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=facts()))
    kubelet.end("merge", merged_report())
    kubelet.end("verify", verified_report())
    answer(kubectl, kubelet, serving.get("replicas", 1))
    await_phase(kubectl, "Ready")
    return kubelet


def answer(kubectl: Kubectl, kubelet: Kubelet, replicas: int) -> None:
    eventually(f"{replicas} pods", lambda: len(kubectl.list("pods", "-l", "ftm.dev/step=serve")) == replicas)
    if replicas:
        kubelet.ready()


def names(kubectl: Kubectl) -> set[str]:
    return {pod["metadata"]["name"] for pod in kubectl.list("pods", "-l", "ftm.dev/step=serve")}


def is_seen(kubectl: Kubectl) -> bool:
    model = get(kubectl)
    return bool(model["status"]["observedGeneration"] == model["metadata"]["generation"])


def replicas(kubectl: Kubectl) -> int:
    return int(kubectl.get("deployment", NAME)["spec"]["replicas"])


def scale(kubectl: Kubectl, number: int) -> None:
    kubectl("scale", "deployment", NAME, f"--replicas={number}")


def patch(kubectl: Kubectl, serving: dict[str, Any]) -> None:
    body = json.dumps({"spec": {"serving": serving}})
    kubectl("patch", "finetunedmodel", NAME, "--type=merge", "-p", body)


def writes(operator: OperatorProcess) -> int:
    """The operator's writes of Deployments so far."""
    events = operator.control_plane.audit(operator.user)
    return len([each for each in events if each["objectRef"]["resource"] == "deployments"])


def ready(kubectl: Kubectl) -> str:
    return next(str(each["message"]) for each in get(kubectl)["status"]["conditions"] if each["type"] == "Ready")


def test_the_number_is_handed_over_left_alone_and_given_back(kubectl: Kubectl, operator: OperatorProcess) -> None:
    kubelet = serve(kubectl, replicas=3)
    pods = names(kubectl)
    patch(kubectl, {"autoscaling": SCALING})
    scaled = eventually("a ScaledObject", lambda: next(iter(kubectl.list("scaledobjects")), None))
    assert scaled["spec"]["scaleTargetRef"]["name"] == NAME
    assert replicas(kubectl) == 3
    assert names(kubectl) == pods, "no pod had to go, not even for a moment"

    before = writes(operator)
    for number in (5, 2, 6, 4, 0, 1):
        scale(kubectl, number)
        patch(kubectl, {"replicas": number + 1})
        eventually("a pass", lambda: is_seen(kubectl))
        assert replicas(kubectl) == number
    assert writes(operator) == before
    patch(kubectl, {"replicas": 2})
    answer(kubectl, kubelet, 1)
    await_phase(kubectl, "Ready")
    assert ready(kubectl) == "1 of 1 replicas answer; spec.serving.replicas 2 is not used while autoscaling is set"

    patch(kubectl, {"autoscaling": None})
    eventually("no ScaledObject", lambda: not kubectl.list("scaledobjects"))
    eventually("the spec's number", lambda: replicas(kubectl) == 2)


def test_a_strangers_autoscaler_and_the_operator_run_beside_each_other(
    kubectl: Kubectl, operator: OperatorProcess
) -> None:
    kubelet = serve(kubectl)
    scale(kubectl, 4)
    answer(kubectl, kubelet, 4)
    eventually("who scales", lambda: "kubectl set 4 replicas, which stay until" in ready(kubectl))
    before = writes(operator)
    for number in (2, 5, 3):
        scale(kubectl, number)
        kubectl("annotate", "finetunedmodel", NAME, f"test/pass={number}", "--overwrite")
        answer(kubectl, kubelet, number)
        eventually("the count", lambda wanted=number: get(kubectl)["status"].get("readyReplicas") == wanted)  # type: ignore[misc]
        assert replicas(kubectl) == number
    assert writes(operator) - before <= 1, "the number is noted once, and never set"
    kubectl("scale", "finetunedmodel", NAME, "--replicas=2")
    eventually("the spec's number", lambda: replicas(kubectl) == 2)


def test_the_last_replica_may_go_and_the_model_stays_ready(kubectl: Kubectl) -> None:
    queue = {"type": "external-push", "metadata": {"scalerAddress": "keda-add-ons-http-external-scaler.keda:9090"}}
    serve(kubectl, autoscaling={**SCALING, "minReplicas": 0, "triggers": [queue]})
    scaled = eventually("a ScaledObject", lambda: next(iter(kubectl.list("scaledobjects")), None))
    assert scaled["spec"]["minReplicaCount"] == 0
    assert scaled["spec"]["triggers"][-1] == queue
    scale(kubectl, 0)
    eventually("it says so", lambda: ready(kubectl).startswith("scaled to zero; ScaledObject support-bot starts"))
    await_phase(kubectl, "Ready")
    eventually("no replicas", lambda: {get(kubectl)["status"][each] for each in ("replicas", "readyReplicas")} == {0})


def test_a_route_and_a_pool_lead_to_the_model(kubectl: Kubectl, operator: OperatorProcess) -> None:
    pool = {"endpointPickerRef": {"name": "epp"}}
    serve(kubectl, gateway={"name": "public", "path": "/support-bot", "inferencePool": pool})
    (route,), (made,) = kubectl.list("httproutes"), kubectl.list("inferencepools")
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"][0]["kind"] == "InferencePool"
    assert made["spec"]["selector"]["matchLabels"] == kubectl.get("service", NAME)["spec"]["selector"]
    patch(kubectl, {"gateway": {"hostnames": ["models.example.com"], "path": None, "inferencePool": None}})
    eventually("no pool", lambda: not kubectl.list("inferencepools"))
    (route,) = kubectl.list("httproutes")
    assert (route["spec"]["rules"][0]["backendRefs"][0]["port"], route["spec"]["hostnames"]) == (
        80,
        ["models.example.com"],
    )
    patch(kubectl, {"gateway": None})
    eventually("no route", lambda: not kubectl.list("httproutes"))
    assert "Traceback" not in operator.log


def test_kedas_own_crd_refuses_what_is_not_kedas(kubectl: Kubectl) -> None:
    wrong = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "x"},
        "spec": {"trigers": 1},
    }
    with pytest.raises(KubectlError, match="trigers"):
        kubectl.apply(wrong)
