"""The operator on an API server that refuses, rewrites and forgets what it is given: it says so, and fights nobody."""

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio import client, config

from ftm_jobs.contract.steps import Step
from ftm_operator.runtime.cluster import Cluster
from tests.cluster.admission import deployments_denied, tolerations_added
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import CHILDREN, Kubelet, await_phase, children, eventually, get
from tests.cluster.operator_process import OperatorProcess, operator_process
from tests.unit.operator.kstatus import violations
from tests.unit.operator.objects import facts, merged_report, report, resource, verified_report

NAMESPACE = "misbehaving-test"
QUIET_SECONDS = 6
"""Three full lists of the operator: enough for a fight to show."""
ALL_PLANES = "".join(chr(plane * 0x10000 + 0xF00D) for plane in range(17)) + "\x7f\x85\x1f\u2028\ufeff🚀 \\ud83d"


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    with operator_process(control_plane, NAMESPACE, tmp_path_factory.mktemp("operator")) as process:
        process.start()
        yield process


@pytest.fixture
def kubectl(operator: OperatorProcess) -> Iterator[Kubectl]:
    inside = operator.control_plane.kubectl.within(NAMESPACE)
    yield inside
    inside("delete", "finetunedmodels,resourcequotas,events", "--all", "--wait")
    inside("delete", ",".join(CHILDREN), "--all", "--force", "--wait=false")
    eventually("an empty namespace", lambda: not children(inside))


def model(namespace: str = NAMESPACE, **spec: Any) -> dict[str, Any]:
    return {**resource("support-bot", **spec), "metadata": {"name": "support-bot", "namespace": namespace}}


def serve(kubectl: Kubectl, **spec: Any) -> Kubelet:
    kubelet = Kubelet(kubectl)
    kubectl.apply(model(kubectl.namespace, **spec))
    kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=facts()))
    kubelet.end("merge", merged_report())
    kubelet.end("verify", verified_report())
    kubelet.ready()
    await_phase(kubectl, "Ready")
    return kubelet


def ready(kubectl: Kubectl) -> dict[str, Any]:
    conditions = get(kubectl)["status"].get("conditions") or []
    return next((dict(condition) for condition in conditions if condition["type"] == "Ready"), {})


def writes(operator: OperatorProcess, kind: str) -> int:
    made = operator.control_plane.audit(operator.user)
    return sum(event["objectRef"]["resource"] == kind for event in made)


def events(kubectl: Kubectl, reason: str) -> list[str]:
    return [event["message"] for event in kubectl.list("events") if event["reason"] == reason]


async def test_every_plane_of_unicode_is_written_as_it_is(operator: OperatorProcess, kubectl: Kubectl) -> None:
    kubeconfig = str(operator.control_plane.kubeconfig)
    connection: client.ApiClient = await config.new_client_from_config(config_file=kubeconfig)  # type: ignore[no-untyped-call]
    async with connection as api:
        identity = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "planes", "namespace": NAMESPACE}}
        await Cluster(api).apply({**identity, "data": {"text": ALL_PLANES}})
    assert kubectl.get("configmap", "planes")["data"]["text"] == ALL_PLANES


def test_an_emoji_in_a_prompt_and_in_an_engines_last_words_stops_nothing(kubectl: Kubectl) -> None:
    kubelet = Kubelet(kubectl)
    kubectl.apply(model(verification={"prompts": [{"prompt": "Who are you? 🤖"}]}))
    kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=facts()))
    kubelet.end("merge", merged_report())
    kubelet.end("verify", verified_report())
    kubelet.crash(kubelet.starts(), "the model is on fire 🔥")
    assert eventually("the engine's words", lambda: "🔥" in ready(kubectl).get("message", ""))


def test_a_proxy_beside_a_step_does_not_keep_its_job_from_ending(kubectl: Kubectl) -> None:
    kubelet = Kubelet(kubectl)
    kubectl.apply(model())
    kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=facts()), beside="istio-proxy")
    kubelet.end("merge", merged_report(), beside="istio-proxy")
    kubelet.end("verify", verified_report(), beside="istio-proxy")
    kubelet.ready()
    await_phase(kubectl, "Ready")
    eventually("no Job that its proxy keeps alive", lambda: not kubectl.list("jobs"))


def test_prompts_beyond_what_one_argument_may_hold_and_a_scratch_volume_make_a_job(kubectl: Kubectl) -> None:
    kubelet = Kubelet(kubectl)
    asked = [{"prompt": "🤖$(HOME)" * 800}] * 32
    kubectl.apply(model(verification={"prompts": asked}, jobs={"scratch": {"storageClassName": "fast"}}))
    kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=facts()))
    kubelet.end("merge", merged_report())
    (job,) = eventually("the Job", lambda: kubectl.list("jobs", "-l", "ftm.dev/step=verify"))
    pod = job["spec"]["template"]["spec"]
    (step,) = pod["containers"]
    assert next(volume for volume in pod["volumes"] if "ephemeral" in volume)["name"] == "tmp"
    assert sum(len(argument.encode()) for argument in step["args"]) > 300_000


def test_a_quota_is_said_and_work_goes_on_once_it_is_raised(kubectl: Kubectl) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-jobs"}}
    kubectl.apply({**quota, "spec": {"hard": {"count/jobs.batch": "0"}}})
    eventually("the quota", lambda: kubectl.get("resourcequota", "no-jobs").get("status", {}).get("hard"))
    kubectl.apply(model())
    said = eventually("the refusal", lambda: ready(kubectl) if ready(kubectl).get("reason") == "ChildRefused" else None)
    assert "exceeded quota: no-jobs" in said["message"]
    assert said["message"].endswith("raise the namespace's quota, or free some of it")
    assert not violations(get(kubectl))
    eventually("its Event", lambda: events(kubectl, "ChildRefused"))
    kubectl("delete", "resourcequota", "no-jobs")
    Kubelet(kubectl).end("inspect", report(Step.INSPECT, "Inspected", facts=facts()))
    eventually("the merge", lambda: ready(kubectl)["reason"] == "Merging")


def test_a_quota_on_pods_is_read_from_the_jobs_events(kubectl: Kubectl) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-pods"}}
    kubectl.apply({**quota, "spec": {"hard": {"pods": "0"}}})
    eventually("the quota", lambda: kubectl.get("resourcequota", "no-pods").get("status", {}).get("hard"))
    kubectl.apply(model())
    said = eventually("the refusal", lambda: "exceeded quota" in (words := ready(kubectl).get("message", "")) and words)
    assert "has no pod yet: FailedCreate: Error creating: pods" in said
    assert said.endswith("raise the namespace's quota, or free some of it")
    kubectl("delete", "resourcequota", "no-pods")


def test_a_policy_that_denies_is_said_in_its_words_and_the_other_children_are_made(kubectl: Kubectl) -> None:
    with deployments_denied(kubectl, "no Deployments on Fridays"):
        kubelet = Kubelet(kubectl)
        kubectl.apply(model())
        kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=facts()))
        kubelet.end("merge", merged_report())
        kubelet.end("verify", verified_report())
        status = await_phase(kubectl, "Failed")["status"]
        assert "no Deployments on Fridays" in ready(kubectl)["message"]
        assert {"Stalled", "Verified"} <= {each["type"] for each in status["conditions"] if each["status"] == "True"}
        assert kubectl.get("service", "support-bot")
    assert eventually("the Deployment", lambda: kubectl.list("deployments"), seconds=120)


def test_a_crd_that_is_older_than_the_operator_loses_only_what_it_lacks(
    operator: OperatorProcess, kubectl: Kubectl
) -> None:
    (file,) = Path("crds").glob("*finetunedmodels*.yaml")
    crd = yaml.safe_load(file.read_text())
    older = copy.deepcopy(crd)
    status = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    del status["selector"], status["facts"]["properties"]["base"]["properties"]["tensors"]
    del older["spec"]["versions"][0]["subresources"]["scale"]["labelSelectorPath"]
    admin = operator.control_plane.kubectl
    try:
        admin("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(older))
        kubectl.apply(model())
        Kubelet(kubectl).end("inspect", report(Step.INSPECT, "Inspected", facts=facts()))
        eventually("the merge", lambda: ready(kubectl).get("reason") == "Merging")
        assert "selector" not in get(kubectl)["status"]
        assert "apply the CRDs of the operator's version" in operator.log
    finally:
        admin("apply", "--server-side", "--force-conflicts", "-f", "crds")


def test_what_others_add_to_a_child_is_left_and_costs_no_write(operator: OperatorProcess, kubectl: Kubectl) -> None:
    kubelet = serve(kubectl, serving={"env": [{"name": "EMPTY", "value": ""}]})
    kubectl("set", "env", "deployment/support-bot", "ADDED=secret-value")
    sidecar = {"spec": {"template": {"spec": {"containers": [{"name": "sidecar", "image": "sidecar"}]}}}}
    kubectl("patch", "deployment", "support-bot", "-p", json.dumps(sidecar))
    eventually("the new pods", lambda: _pods_are_of(kubectl, "sidecar"))
    kubelet.ready()
    await_phase(kubectl, "Ready")
    before = writes(operator, "deployments")
    time.sleep(QUIET_SECONDS)
    assert writes(operator, "deployments") == before
    assert ready(kubectl)["status"] == "True"
    assert "secret-value" not in operator.log
    assert {each["name"] for each in _containers(kubectl)} == {"vllm", "sidecar"}


def _containers(kubectl: Kubectl) -> list[dict[str, Any]]:
    template = kubectl.get("deployment", "support-bot")["spec"]["template"]
    return list(template["spec"]["containers"])


def _pods_are_of(kubectl: Kubectl, container: str) -> bool:
    pods = kubectl.list("pods", "-l", "ftm.dev/step=serve")
    return any(container in {each["name"] for each in pod["spec"]["containers"]} for pod in pods)


def test_what_a_policy_rewrites_is_said_once_and_neither_fought_nor_held_against_it(
    operator: OperatorProcess, kubectl: Kubectl
) -> None:
    with tolerations_added(kubectl):
        serve(kubectl, serving={"tolerations": [{"key": "gpu", "operator": "Exists"}]})
        before = writes(operator, "deployments")
        time.sleep(QUIET_SECONDS)
        assert writes(operator, "deployments") == before
        assert ready(kubectl)["status"] == "True"
        (said,) = events(kubectl, "Contested")
        assert said.startswith("Deployment support-bot spec.template.spec.tolerations")


def test_a_field_that_another_controller_takes_back_is_left_after_a_few_applies(
    operator: OperatorProcess, kubectl: Kubectl
) -> None:
    serve(kubectl)
    before = writes(operator, "deployments")
    for _ in range(8):
        kubectl("patch", "deployment", "support-bot", "--type=merge", "-p", '{"spec": {"replicas": 3}}')
        time.sleep(0.5)
    assert writes(operator, "deployments") - before <= 3
    assert len(events(kubectl, "Contested")) == 1


def test_children_that_a_deletion_orphaned_cost_no_storm_of_requests(
    operator: OperatorProcess, kubectl: Kubectl
) -> None:
    kubectl.apply(model())
    eventually("the Job", lambda: kubectl.list("jobs"))
    kubectl("delete", "finetunedmodel", "support-bot", "--cascade=orphan", "--wait")
    kubectl.apply(model())
    own = eventually("a Job of its own", lambda: [each for each in kubectl.list("jobs") if _is_owned(kubectl, each)])
    assert own[0]["metadata"]["name"].endswith("-2")
    before = len(operator.log.splitlines())
    time.sleep(QUIET_SECONDS)
    assert len(operator.log.splitlines()) - before <= 2
    assert len(kubectl.list("jobs")) == 2


def _is_owned(kubectl: Kubectl, job: dict[str, Any]) -> bool:
    owners = job["metadata"].get("ownerReferences") or []
    return get(kubectl)["metadata"]["uid"] in {owner["uid"] for owner in owners}


def test_a_job_of_somebody_else_with_the_name_is_said(kubectl: Kubectl) -> None:
    kubectl.apply(model())
    (job,) = eventually("the Job", lambda: kubectl.list("jobs"))
    kubectl("delete", "finetunedmodel", "support-bot", "--wait")
    eventually("no Job", lambda: not kubectl.list("jobs"))
    pod = {"restartPolicy": "Never", "containers": [{"name": "mine", "image": "mine"}]}
    name = job["metadata"]["name"]
    kubectl.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": {"spec": pod}}}
    )
    kubectl.apply(model())
    said = eventually("the hold", lambda: ready(kubectl) if ready(kubectl).get("reason") == "NameTaken" else None)
    assert said["message"].startswith(f"Job {name} exists and is not this FineTunedModel's")
    kubectl("delete", "job", name)
    eventually("the Job", lambda: [each for each in kubectl.list("jobs") if _is_owned(kubectl, each)])
