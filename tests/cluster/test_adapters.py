"""Adapters at run time against a real API server: tenants' rights, names, Jobs, pods that are told, and what they hold.

There is no node here: `Kubelet` says how Jobs' pods end, and the tests make the serving pods, of which a node without a
kubelet serves the agents' logs.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.run_time_adapters import WANTED_FILE, AdapterState, HeldAdapter, HeldAdapters, wanted_hash
from ftm_jobs.contract.steps import Step
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl, KubectlError
from tests.cluster.kubelet import CHILDREN, Kubelet, children, eventually
from tests.cluster.log_server import LogNode, log_node
from tests.cluster.operator_process import RELEASE, OperatorProcess, prepared
from tests.unit.operator import adapters
from tests.unit.operator.api.adapter_refusals import EVERYTHING, REFUSED
from tests.unit.operator.kstatus import violations
from tests.unit.operator.objects import adapter_facts, base_facts, report

NAMESPACE = "adapters-test"
MODEL = adapters.MODEL
TENANT = "tenant"
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    admin = prepared(control_plane, NAMESPACE)
    process = OperatorProcess(control_plane, NAMESPACE, tmp_path_factory.mktemp("operator"))
    process.permit()
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole"}
    admin.within(NAMESPACE).apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": TENANT},
            "roleRef": {**role, "name": f"{NAMESPACE}:{RELEASE}:adapters-editor"},
            "subjects": [{"kind": "ServiceAccount", "name": TENANT, "namespace": NAMESPACE}],
        },
    )
    process.start()
    yield process
    if process.running():
        process.kill()


@pytest.fixture
def kubectl(operator: OperatorProcess) -> Iterator[Kubectl]:
    """An empty namespace, and a running operator."""
    inside = operator.control_plane.kubectl.within(NAMESPACE)
    yield inside
    for plural in ("finetunedadapters", "finetunedmodels"):  # all at once
        inside("delete", "--raw", f"/apis/ftm.dev/v1alpha1/namespaces/{NAMESPACE}/{plural}")
    inside("delete", ",".join(CHILDREN), "--all", "--force", "--wait=false")
    eventually("an empty namespace", lambda: not children(inside))


@pytest.fixture
def kubelet(kubectl: Kubectl) -> Kubelet:
    return Kubelet(kubectl)


def stripped(item: Manifest) -> Manifest:
    return {**item, "metadata": {"name": item["metadata"]["name"], "namespace": NAMESPACE}}


def adapter(name: str, **spec: Any) -> Manifest:
    return stripped(adapters.adapter(name, **spec))


def model(**spec: Any) -> Manifest:
    return stripped(adapters.model(**spec))


def get(kubectl: Kubectl, name: str) -> Manifest:
    return kubectl.get("finetunedadapter", name)


def condition(kubectl: Kubectl, name: str, kind: str) -> Manifest | None:
    item = get(kubectl, name)
    conditions = item.get("status", {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == kind), None)


def awaited(kubectl: Kubectl, name: str, kind: str, reason: str) -> Manifest:
    """The condition of an adapter, once it has this reason."""

    def found() -> Manifest | None:
        seen = condition(kubectl, name, kind)
        return seen if seen and seen["reason"] == reason else None

    told = eventually(f"{name}: {kind} for {reason}", found)
    assert not violations(get(kubectl, name))
    return told


def inspected() -> Report:
    return report(Step.INSPECT, "Inspected", facts=Facts(base=base_facts(), adapters=()))


def kept(digest: str = adapters.DIGEST) -> Report:
    key = f"adapter-{digest[-32:]}"
    artifact = {"key": key, "uri": f"s3://artifacts/built/{key}", "digest": digest, "totalBytes": 9, "files": 2}
    facts = Facts(base=base_facts(), adapters=(adapter_facts(),))
    return report(Step.ADAPTER, "AdapterKept", facts=facts, artifact=artifact)


FORBIDDEN = (
    ("patch", "finetunedmodels"),
    ("create", "finetunedmodels"),
    ("patch", "finetunedadapters", "--subresource=status"),
    ("create", "pods"),
    ("patch", "pods"),
    ("get", "secrets"),
    ("get", "configmaps"),
)


def _may(kubectl: Kubectl, who: str, *what: str) -> bool:
    try:
        return kubectl("auth", "can-i", *what, who).strip() == "yes"
    except KubectlError:
        return False


def test_a_tenant_who_may_write_adapters_and_nothing_else_has_one_checked(kubectl: Kubectl, kubelet: Kubelet) -> None:
    kubectl.apply(model())
    kubelet.end("inspect", inspected())
    as_tenant = f"--as=system:serviceaccount:{NAMESPACE}:{TENANT}"
    kubectl("apply", as_tenant, "-f", "-", stdin=json.dumps(adapter("billing")))
    assert _may(kubectl, as_tenant, "delete", "finetunedadapters")
    may = [each for each in FORBIDDEN if _may(kubectl, as_tenant, *each)]
    assert may == []
    kubelet.end("adapter", kept())
    waits = awaited(kubectl, "billing", "Reconciling", "Loading")
    assert waits["message"] == f"no pod of FineTunedModel {MODEL} answers yet"
    status = get(kubectl, "billing")["status"]
    assert (status["artifact"]["digest"], status["facts"]["rank"], status["servedName"]) == (
        adapters.DIGEST,
        8,
        "billing",
    )
    row = kubectl("get", "fta", "billing").splitlines()[1].split()
    assert row[:4] == ["billing", "False", MODEL, "billing"]
    kubectl("delete", as_tenant, "finetunedadapter", "billing", "--wait")
    eventually("no Job of it", lambda: not kubectl.list("jobs", "-l", "ftm.dev/adapter=billing"))


@pytest.mark.parametrize(("spec", "sentence"), REFUSED)
def test_the_api_server_refuses_what_is_wrong_in_a_sentence(
    kubectl: Kubectl, spec: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(KubectlError) as refusal:
        kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(adapter("billing", **spec)))
    assert sentence in str(refusal.value)


def test_the_api_server_takes_all_that_may_be_said_and_fills_in_the_rest(kubectl: Kubectl) -> None:
    def stored(spec: dict[str, Any]) -> dict[str, Any]:
        made = kubectl(
            "create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(adapter("a") | {"spec": spec})
        )
        found: dict[str, Any] = json.loads(made)
        return found

    assert stored(EVERYTHING)["spec"] == EVERYTHING
    least = {"model": MODEL, "uri": "s3://tenants/a"}
    assert stored(least)["spec"] == {**least, "verification": {"policy": "Block"}}
    assert stored(least)["status"] == {"observedGeneration": -1}


def test_of_two_that_want_one_name_the_newer_gets_it_as_soon_as_the_older_goes(
    kubectl: Kubectl, kubelet: Kubelet
) -> None:
    kubectl.apply(model())
    kubelet.end("inspect", inspected())
    kubectl.apply(adapter("older", servedName="name"))
    awaited(kubectl, "older", "Reconciling", "Inspecting")
    time.sleep(1.1)  # creation times are of whole seconds
    kubectl.apply(adapter("newer", servedName="name"))
    awaited(kubectl, "newer", "Stalled", "ServedNameTaken")
    assert not kubectl.list("jobs", "-l", "ftm.dev/adapter=newer")
    kubectl("delete", "finetunedadapter", "older")
    awaited(kubectl, "newer", "Reconciling", "Inspecting")
    events = kubectl.list("events", "--field-selector", "involvedObject.kind=FineTunedAdapter")
    assert "ServedNameTaken" in {each["reason"] for each in events}


def test_a_model_that_comes_goes_and_comes_again(kubectl: Kubectl, kubelet: Kubelet) -> None:
    kubectl.apply(adapter("billing"))
    awaited(kubectl, "billing", "Stalled", "ModelNotFound")
    kubectl.apply(model(mode="Merged", adapters=[{"name": "own", "uri": "s3://models/own"}]))
    awaited(kubectl, "billing", "Stalled", "ModelNotDynamic")
    kubectl("delete", "finetunedmodel", MODEL, "--wait")
    awaited(kubectl, "billing", "Stalled", "ModelNotFound")
    kubectl.apply(model())
    kubelet.end("inspect", inspected())
    awaited(kubectl, "billing", "Reconciling", "Inspecting")


@dataclass
class ServingPod:
    """The one pod that serves the model: its engine runs, and its agent says what the test has it say."""

    kubectl: Kubectl
    node: LogNode
    name: str = ""
    snapshots: int = 0

    def starts(self) -> None:
        (pod,) = eventually("a serving pod", lambda: self.kubectl.list("pods", "-l", "ftm.dev/step=serve"))
        self.name = pod["metadata"]["name"]
        self.node.bind(self.name)
        blank = {"image": "", "imageID": "", "restartCount": 0, "ready": True, "state": {"running": {}}}
        status = {
            "phase": "Running",
            "initContainerStatuses": [{**blank, "name": "adapters"}],
            "containerStatuses": [{**blank, "name": "vllm"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        patch = json.dumps({"status": status})
        self.kubectl("patch", "pod", self.name, "--subresource=status", "--type=merge", "-p", patch)

    def told(self, *names: str) -> str:
        """The hash that the pod is annotated with, once the ConfigMap has these adapters and no others."""

        def found() -> str | None:
            text = self.kubectl.get("configmap", f"{MODEL}-adapters")["data"][WANTED_FILE]
            pod = self.kubectl.get("pod", self.name)
            told = (pod["metadata"].get("annotations") or {}).get("ftm.dev/wanted-adapters")
            wanted = [each["name"] for each in json.loads(text)["adapters"]]
            return told if wanted == list(names) and told == wanted_hash(text) else None

        return str(eventually(f"the pod is told of {names}", found))

    def says(self, wanted: str, *held: HeldAdapter) -> None:
        self.snapshots += 1
        self.node.line = "\n".join(HeldAdapters(snapshot=self.snapshots, wanted=wanted, adapters=held).lines())


def test_an_adapter_that_is_kept_reaches_the_pods_and_what_they_hold_is_its_status(
    kubectl: Kubectl, kubelet: Kubelet, operator: OperatorProcess, control_plane: ControlPlane
) -> None:
    if control_plane.authority is None:
        pytest.skip("the API server trusts no node of ours, so nothing here can answer for a pod's log")
    with log_node(kubectl, control_plane.authority, "adapters-node") as node:
        pod = ServingPod(kubectl, node)
        kubectl.apply(model())
        kubelet.end("inspect", inspected())
        pod.starts()
        for name, digest in (("billing", adapters.DIGEST), ("legal", adapters.NEW_DIGEST)):
            kubectl.apply(adapter(name))
            kubelet.end("adapter", kept(digest))
        wanted = pod.told("billing", "legal")
        said = "LoRA rank 64 is greater than max_lora_rank 16"
        legal = adapters.held("legal", AdapterState.FAILED, adapters.NEW_DIGEST, reason="EngineRefuses", message=said)
        pod.says(wanted, adapters.loaded("billing"), legal)
        awaited(kubectl, "billing", "Ready", "Serving")
        stalled = awaited(kubectl, "legal", "Stalled", "EngineRefuses")
        assert stalled["message"] == f'0 of 1 pods answer for "legal"; pod {pod.name}: {said}'
        status = get(kubectl, "billing")["status"]
        assert (status["pods"], status["serving"]) == ("1/1", adapters.DIGEST)
        assert status["endpoint"] == f"http://{MODEL}.{NAMESPACE}.svc/v1"
        before, reads = control_plane.quiet(operator.user), len(node.requests)
        time.sleep(operator.resync_seconds * 3)
        assert [event["requestURI"] for event in control_plane.audit(operator.user)[before:]] == []
        assert len(node.requests) == reads, "the log is not polled when all is said"
        operator.kill()
        operator.start()
        time.sleep(operator.resync_seconds)
        assert [event["requestURI"] for event in control_plane.audit(operator.user)[before:]] == []
        kubectl("delete", "finetunedadapter", "legal")
        pod.says(pod.told("billing"), adapters.loaded("billing"))
        kubectl("delete", "finetunedmodel", MODEL, "--wait")
        awaited(kubectl, "billing", "Stalled", "ModelNotFound")


def test_many_adapters_are_written_about_once_each_and_not_again(
    kubectl: Kubectl, operator: OperatorProcess, control_plane: ControlPlane
) -> None:
    count, before = 300, len(control_plane.audit(operator.user))
    kubectl.apply(*(adapter(f"adapter-{number}") for number in range(count)))

    def stalled() -> bool:
        items = kubectl.list("finetunedadapters")
        return sum(bool((each.get("status") or {}).get("conditions")) for each in items) == count

    eventually("all are stalled", stalled)
    time.sleep(operator.resync_seconds * 2)
    written = len(control_plane.audit(operator.user)) - before
    assert written == 2 * count, "a status and an Event each"
    time.sleep(operator.resync_seconds * 2)
    assert len(control_plane.audit(operator.user)) - before == written
