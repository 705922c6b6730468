"""Pods as production wants them, on a real API server: accepted, followed when it changes, and then left alone."""

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftm_jobs.contract.steps import Step
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import CHILDREN, Kubelet, await_phase, children, eventually, get
from tests.cluster.operator_process import OperatorProcess, prepared
from tests.unit.operator.objects import facts, merged_report, report, verified_report

NAMESPACE = "pods-test"
EXAMPLE = yaml.safe_load(Path("examples/production.yaml").read_text())
REPLICAS = EXAMPLE["spec"]["serving"]["replicas"]
QUIET_SECONDS = 6
"""Three full lists of the operator."""


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    admin = prepared(control_plane, NAMESPACE)
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "production"}}
    admin.apply({**priority, "value": 1000})
    for name in ("models-reader", "models-writer"):
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}
        admin.within(NAMESPACE).apply(account)
    process = OperatorProcess(control_plane, NAMESPACE, tmp_path_factory.mktemp("operator"))
    process.permit()
    process.start()
    yield process
    process.kill()
    admin("delete", "namespace", NAMESPACE, "--wait=false")
    admin("delete", "priorityclass", "production")


@pytest.fixture
def kubectl(operator: OperatorProcess) -> Iterator[Kubectl]:
    inside = operator.control_plane.kubectl.within(NAMESPACE)
    yield inside
    inside("delete", "finetunedmodels", "--all", "--wait")
    inside("delete", ",".join(CHILDREN), "--all", "--force", "--wait=false")
    eventually("an empty namespace", lambda: not children(inside))


def model(**serving: Any) -> dict[str, Any]:
    """The example, with other fields of serving; None leaves one out."""
    made: dict[str, Any] = copy.deepcopy(EXAMPLE)
    asked = made["spec"]["serving"] | serving
    made["spec"]["serving"] = {field: value for field, value in asked.items() if value is not None}
    return made


def serve(kubectl: Kubectl) -> None:
    kubelet = Kubelet(kubectl)
    kubectl.apply(model())
    kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=facts()))
    kubelet.end("merge", merged_report())
    kubelet.end("verify", verified_report())
    eventually("both pods", lambda: len(kubectl.list("pods", "-l", "ftm.dev/step=serve")) == REPLICAS)
    kubelet.ready()
    await_phase(kubectl, "Ready")


def spec(kubectl: Kubectl, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = kubectl.get(kind, "support-bot")["spec"]
    return found


def writes(operator: OperatorProcess, seconds: float = QUIET_SECONDS) -> list[str]:
    """Returns the requests that are no reads in the time that follows."""
    before = operator.control_plane.quiet(operator.user)
    time.sleep(seconds)
    return [event["requestURI"] for event in operator.control_plane.audit(operator.user)[before:]]


def test_all_that_production_asks_for_is_accepted_and_then_left_alone(
    operator: OperatorProcess, kubectl: Kubectl
) -> None:
    serve(kubectl)
    pod = spec(kubectl, "deployment")["template"]["spec"]
    assert [container["name"] for container in pod["containers"]] == ["vllm", "proxy"]
    assert pod["containers"][0]["securityContext"]["runAsUser"] == 1000
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert (pod["serviceAccountName"], pod["terminationGracePeriodSeconds"]) == ("models-reader", 300)
    assert spec(kubectl, "poddisruptionbudget")["maxUnavailable"] == 1
    assert spec(kubectl, "service")["type"] == "LoadBalancer"
    for job in kubectl.list("jobs"):
        made = job["spec"]["template"]
        assert (made["spec"]["serviceAccountName"], made["metadata"]["labels"]["team"]) == ("models-writer", "support")
        assert {"name": "tmp", "emptyDir": {"sizeLimit": "200Gi"}} in made["spec"]["volumes"]
    assert writes(operator) == []
    assert not [line for line in operator.log.splitlines() if "Contested" in line]


def test_a_service_and_a_budget_follow_the_spec_and_a_removed_budget_goes(
    operator: OperatorProcess, kubectl: Kubectl
) -> None:
    serve(kubectl)
    generation = kubectl.get("deployment", "support-bot")["metadata"]["generation"]
    kubectl.apply(model(service={"port": 8080}, disruptionBudget=None))
    eventually("no budget", lambda: not kubectl.list("poddisruptionbudgets"))
    shown = eventually(
        "a ClusterIP", lambda: found if (found := spec(kubectl, "service"))["type"] == "ClusterIP" else None
    )
    assert [port["port"] for port in shown["ports"]] == [8080]
    assert "nodePort" not in shown["ports"][0]
    eventually("the port", lambda: get(kubectl)["status"]["endpoint"] == f"http://support-bot.{NAMESPACE}.svc:8080/v1")
    assert kubectl.get("deployment", "support-bot")["metadata"]["generation"] == generation
    await_phase(kubectl, "Ready")
    assert writes(operator) == []


def test_a_field_that_kubernetes_does_not_have_is_named_and_what_serves_goes_on(kubectl: Kubectl) -> None:
    serve(kubectl)
    kubectl.apply(model(podTemplate={"spec": {"hostNetwrk": True}}))
    conditions = {each["type"]: each for each in await_phase(kubectl, "Failed")["status"]["conditions"]}
    said = conditions["Ready"]
    assert said["reason"] == "ChildRefused"
    assert (
        ".spec.template.spec.hostNetwrk: field not declared in schema; correct the field of the spec" in said["message"]
    )
    assert conditions["Stalled"]["status"] == "True"
    assert get(kubectl)["status"]["readyReplicas"] == REPLICAS
