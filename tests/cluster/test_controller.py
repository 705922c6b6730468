"""The operator against a real API server and the real Job, Deployment and garbage controllers.

There is no node here, so the kubelet is played by the tests: `Kubelet` says how pods end or that they are ready.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl, KubectlError
from tests.cluster.kubelet import CHILDREN, Kubelet, await_phase, children, eventually, get
from tests.cluster.log_server import log_node
from tests.cluster.operator_process import OperatorProcess, prepared
from tests.unit.operator.kstatus import violations
from tests.unit.operator.objects import facts, merged_report, refusal, report, resource, verified_report

NAMESPACE = "controller-test"


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    prepared(control_plane, NAMESPACE)
    process = OperatorProcess(control_plane, NAMESPACE, tmp_path_factory.mktemp("operator"))
    process.permit()
    process.start()
    yield process
    if process.running():
        process.kill()


@pytest.fixture
def kubectl(operator: OperatorProcess) -> Iterator[Kubectl]:
    """An empty namespace, and a running operator."""
    if not operator.running():
        operator.start()
    inside = operator.control_plane.kubectl.within(NAMESPACE)
    yield inside
    inside("delete", "finetunedmodels", "--all", "--wait")
    inside("delete", ",".join(CHILDREN), "--all", "--force", "--wait=false")
    eventually("an empty namespace", lambda: not children(inside))


@pytest.fixture
def kubelet(kubectl: Kubectl) -> Kubelet:
    return Kubelet(kubectl)


def manifest(name: str = "support-bot", **spec: Any) -> dict[str, Any]:
    made = resource(name, **spec)
    return {**made, "metadata": {"name": name, "namespace": NAMESPACE}}


def inspected() -> Report:
    return report(Step.INSPECT, "Inspected", facts=facts())


def serve(kubectl: Kubectl, kubelet: Kubelet, name: str = "support-bot") -> None:
    kubectl.apply(manifest(name))
    kubelet.end("inspect", inspected())
    kubelet.end("merge", merged_report())
    kubelet.end("verify", verified_report())
    kubelet.ready()
    await_phase(kubectl, "Ready", name)


def events(kubectl: Kubectl) -> list[str]:
    ours = ("--field-selector", "involvedObject.kind=FineTunedModel")
    return [item["reason"] for item in kubectl.list("events", *ours)]


def test_from_apply_to_ready(kubectl: Kubectl, kubelet: Kubelet) -> None:
    kubectl.apply(manifest())
    assert not violations(await_phase(kubectl, "Inspecting"))
    kubelet.end("inspect", inspected())
    assert not violations(await_phase(kubectl, "Merging"))
    kubelet.end("merge", merged_report())
    kubelet.end("verify", verified_report())
    assert not violations(await_phase(kubectl, "Deploying"))
    kubelet.ready()
    served = await_phase(kubectl, "Ready")
    assert not violations(served)
    assert served["status"]["endpoint"] == f"http://support-bot.{NAMESPACE}.svc/v1"
    eventually("its Events", lambda: {"Inspected", "Merged", "Serving"} <= set(events(kubectl)))
    columns = kubectl("get", "ftm", "support-bot").splitlines()[1].split()
    assert columns[:5] == ["support-bot", "True", "Ready", "None", "1"]


def test_nothing_is_written_when_nothing_changes(
    kubectl: Kubectl, kubelet: Kubelet, operator: OperatorProcess, control_plane: ControlPlane
) -> None:
    serve(kubectl, kubelet)
    before = control_plane.quiet(operator.user)
    kubectl.apply(manifest())
    time.sleep(operator.resync_seconds * 3)
    assert [event["requestURI"] for event in control_plane.audit(operator.user)[before:]] == []
    assert operator.health() == 200


def test_the_operator_never_asks_for_a_secret(
    kubectl: Kubectl, kubelet: Kubelet, operator: OperatorProcess, control_plane: ControlPlane
) -> None:
    serve(kubectl, kubelet)
    assert control_plane.audit(operator.user)
    assert not [event for event in control_plane.audit(operator.user) if event["objectRef"]["resource"] == "secrets"]
    assert kubectl("auth", "can-i", "get", "finetunedmodels", f"--as={operator.user}").strip() == "yes"
    with pytest.raises(KubectlError, match="can-i get secrets"):
        kubectl("auth", "can-i", "get", "secrets", f"--as={operator.user}")


def test_a_killed_operator_goes_on_where_it_was(kubectl: Kubectl, kubelet: Kubelet, operator: OperatorProcess) -> None:
    kubectl.apply(manifest())
    kubelet.end("inspect", inspected())
    await_phase(kubectl, "Merging")
    operator.kill()
    kubelet.end("merge", merged_report())
    operator.start()
    kubelet.end("verify", verified_report())
    await_phase(kubectl, "Deploying")
    operator.kill()
    operator.start()
    kubelet.ready()
    await_phase(kubectl, "Ready")
    assert len(kubectl.list("jobs")) == 3


def test_an_operator_that_is_told_to_stop_ends_cleanly(kubectl: Kubectl, operator: OperatorProcess) -> None:
    kubectl.apply(manifest())
    await_phase(kubectl, "Inspecting")
    assert operator.stop() == 0


def test_deleted_and_edited_children_are_put_back(kubectl: Kubectl, kubelet: Kubelet) -> None:
    serve(kubectl, kubelet)
    old = kubectl.get("service", "support-bot")["metadata"]["uid"]
    kubectl("delete", "service", "support-bot")
    eventually("a new Service", lambda: [one for one in kubectl.list("services") if one["metadata"]["uid"] != old])
    kubectl("patch", "deployment", "support-bot", "--type=merge", "-p", '{"spec": {"replicas": 3}}')
    eventually("one replica again", lambda: kubectl.get("deployment", "support-bot")["spec"]["replicas"] == 1)


def test_scaling_the_resource_scales_the_deployment_and_builds_nothing(kubectl: Kubectl, kubelet: Kubelet) -> None:
    serve(kubectl, kubelet)
    kubectl("scale", "finetunedmodel", "support-bot", "--replicas=2")
    eventually("two replicas", lambda: kubectl.get("deployment", "support-bot")["spec"]["replicas"] == 2)
    eventually("two pods", lambda: len(kubectl.list("pods", "-l", "ftm.dev/step=serve")) == 2)
    kubelet.ready()
    assert await_phase(kubectl, "Ready")["status"]["readyReplicas"] == 2
    assert len(kubectl.list("jobs")) == 3


def test_wrong_input_stalls_and_a_corrected_manifest_recovers(kubectl: Kubectl, kubelet: Kubelet) -> None:
    kubectl.apply(manifest(base={"uri": "s3://modles/base"}))
    sentence = 's3://modles/base: bucket "modles" does not exist; correct the URI, or create the bucket'
    kubelet.end("inspect", refusal(Step.INSPECT, "BucketNotFound", sentence))
    stalled = await_phase(kubectl, "Failed")
    assert not violations(stalled)
    conditions = {condition["type"]: condition for condition in stalled["status"]["conditions"]}
    assert (conditions["Stalled"]["reason"], conditions["Stalled"]["message"]) == ("BucketNotFound", sentence)
    eventually("its Event", lambda: "BucketNotFound" in events(kubectl))
    assert not kubectl.list("deployments")
    kubectl.apply(manifest())
    await_phase(kubectl, "Inspecting")
    kubelet.end("inspect", inspected())
    await_phase(kubectl, "Merging")


def test_two_resources_share_one_merge(kubectl: Kubectl, kubelet: Kubelet) -> None:
    for name in ("first", "second"):
        kubectl.apply(manifest(name))
        kubelet.end("inspect", inspected())
        await_phase(kubectl, "Merging", name)
    assert len(kubectl.list("jobs", "-l", "ftm.dev/step=merge")) == 1
    kubelet.end("merge", merged_report())
    kubelet.end("verify", verified_report())
    for name in ("first", "second"):
        await_phase(kubectl, "Deploying", name)


def test_status_tells_how_far_a_merge_is(
    kubectl: Kubectl, kubelet: Kubelet, operator: OperatorProcess, control_plane: ControlPlane
) -> None:
    if control_plane.authority is None:
        pytest.skip("the API server trusts no node of ours, so nothing here can answer for a pod's log")
    with log_node(kubectl, control_plane.authority, "log-node") as node:
        node.line = "merge: 3.1 GB of 14.5 GB (21 %), 310 MB/s, 37 s left"
        kubectl.apply(manifest())
        kubelet.end("inspect", inspected())
        await_phase(kubectl, "Merging")
        pod = kubelet.running("merge")
        node.bind(pod)

        def message() -> str:
            conditions = get(kubectl)["status"]["conditions"]
            return str(next(one["message"] for one in conditions if one["type"] == "Reconciling"))

        eventually("progress in status", lambda: "merging: 3.1 GB of 14.5 GB (21 %), 310 MB/s, 37 s left" in message())
        assert f"merging: {node.line.removeprefix('merge: ')}" in kubectl("get", "ftm", "support-bot", "-o", "wide")
        assert set(node.requests) == {f"/containerLogs/{NAMESPACE}/{pod}/merge?limitBytes=512&tailLines=1"}
        writes, reads = len(control_plane.audit(operator.user)), len(node.requests)
        time.sleep(operator.resync_seconds * 4)
        assert len(control_plane.audit(operator.user)) == writes
        assert len(node.requests) <= reads + 1


def test_models_on_volumes_are_built_and_served(kubectl: Kubectl, kubelet: Kubelet) -> None:
    asked = manifest(
        base={"uri": "pvc://models/base"},
        adapters=[{"name": "support", "uri": "pvc://models/adapters/support"}],
        artifacts={"uri": "pvc://built"},
    )
    kubectl.apply(asked)
    kubelet.end("inspect", report(Step.INSPECT, "Inspected", facts=facts(uri="pvc://models/base")))
    (merge,) = eventually("a merge pod", lambda: kubectl.list("pods", "-l", "ftm.dev/step=merge"))
    claims = {
        each["persistentVolumeClaim"]["claimName"]: each["name"]
        for each in merge["spec"]["volumes"]
        if "persistentVolumeClaim" in each
    }
    mounts = {each["name"]: each.get("readOnly", False) for each in merge["spec"]["containers"][0]["volumeMounts"]}
    assert {claim: mounts[name] for claim, name in claims.items()} == {"models": True, "built": False}
    artifact = merged_report().artifact
    assert artifact
    on_claim = artifact.model_copy(update={"uri": f"pvc://built/{artifact.key}"})
    kubelet.end("merge", merged_report().model_copy(update={"artifact": on_claim}))
    kubelet.end("verify", verified_report())
    kubelet.ready()
    assert await_phase(kubectl, "Ready")["status"]["artifacts"]["merged"]["uri"] == on_claim.uri


def test_a_merge_that_was_killed_for_its_memory_gets_more(kubectl: Kubectl, kubelet: Kubelet) -> None:
    kubectl.apply(manifest())
    kubelet.end("inspect", inspected())
    await_phase(kubectl, "Merging")
    kubelet.kill("merge")
    second = eventually(
        "a second Job", lambda: [one for one in kubectl.list("jobs") if one["metadata"]["name"].endswith("-2")]
    )
    (container,) = second[0]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "8Gi"
    kubelet.end("merge", merged_report())
    kubelet.end("verify", verified_report())
    await_phase(kubectl, "Deploying")


def test_artifacts_that_a_cluster_refers_to_are_kept(
    kubectl: Kubectl, kubelet: Kubelet, control_plane: ControlPlane, tmp_path: Path
) -> None:
    serve(kubectl, kubelet)
    unused = "merge-" + "0" * 32
    for key in (unused, str(get(kubectl)["status"]["artifacts"]["merged"]["key"])):
        (tmp_path / key).mkdir()
        (tmp_path / key / "manifest.json").write_text(
            json.dumps({"key": key, "step": "merge", "recipe": 1, "inputs": [], "files": []})
        )
    command = [
        sys.executable,
        "-c",
        "from ftm_operator.command.main import main; main()",
        "artifacts",
        "gc",
        str(tmp_path),
    ]
    environment = {**os.environ, "KUBECONFIG": str(control_plane.kubeconfig)}
    done = subprocess.run([*command, "--delete", "-o", "json"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [one["key"] for one in json.loads(done.stdout)["artifacts"]] == [unused]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_deployment_of_the_same_name_is_not_taken_over(kubectl: Kubectl, kubelet: Kubelet) -> None:
    labels = {"app": "other"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "support-bot"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
    }
    kubectl.apply(theirs)
    kubectl.apply(manifest())
    kubelet.end("inspect", inspected())
    kubelet.end("merge", merged_report())
    kubelet.end("verify", verified_report())
    stalled = await_phase(kubectl, "Failed")
    assert "Deployment support-bot exists" in stalled["status"]["conditions"][0]["message"]
    assert kubectl.get("deployment", "support-bot")["spec"]["selector"] == {"matchLabels": labels}


def test_deleting_the_resource_leaves_nothing_behind(kubectl: Kubectl, kubelet: Kubelet) -> None:
    serve(kubectl, kubelet)
    kubectl("delete", "finetunedmodel", "support-bot", "--wait")
    kubectl("delete", "pods", "--all", "--force", "--wait=false")
    eventually("no child is left", lambda: not children(kubectl))
