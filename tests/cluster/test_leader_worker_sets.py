"""A replica over two nodes: the operator against a real API server with LeaderWorkerSet's own CRD, and without it.

No LeaderWorkerSet controller runs: the test makes the groups' pods and says when they are ready.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import CHILDREN, await_phase, children, eventually, get
from tests.cluster.leader_worker_set import GroupController
from tests.cluster.module_crds import LEADER_WORKER_SETS, is_established
from tests.cluster.operator_process import OperatorProcess, prepared
from tests.cluster.test_gpus import NAMESPACE, add_node, build, flag, inspect

RESYNC_SECONDS = 2.0
GROUP = "support-bot-nodes"


@pytest.fixture
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """Runs in a cluster of two nodes with one A10G each, and without LeaderWorkerSet."""
    admin = prepared(control_plane, NAMESPACE)
    for name in ("one", "two"):
        add_node(admin, name, "NVIDIA-A10G", 1)
    process = OperatorProcess(control_plane, NAMESPACE, tmp_path_factory.mktemp("groups"), RESYNC_SECONDS)
    process.permit()
    process.start()
    yield process
    process.kill()
    inside = admin.within(NAMESPACE)
    inside("delete", "finetunedmodels", "--all", "--wait")
    admin.delete("crd", LEADER_WORKER_SETS.name)
    inside("delete", ",".join(CHILDREN), "--all", "--force", "--wait=false")
    admin("delete", "nodes", "-l", "example.test/pool")
    eventually("an empty namespace", lambda: not children(inside))


@pytest.fixture
def kubectl(operator: OperatorProcess) -> Kubectl:
    return operator.control_plane.kubectl.within(NAMESPACE)


def install(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", str(LEADER_WORKER_SETS.path()))
    eventually("LeaderWorkerSets are served", lambda: is_established(kubectl, LEADER_WORKER_SETS.name))


def _with_proxies(template: dict[str, Any]) -> list[dict[str, Any]] | None:
    pods = [template["leaderTemplate"], template["workerTemplate"]]
    return pods if all(each["spec"]["containers"][-1]["name"] == "proxy" for each in pods) else None


def test_a_replica_over_two_nodes_waits_for_leader_worker_sets_and_is_served_by_one(
    kubectl: Kubectl, operator: OperatorProcess
) -> None:
    kubelet = inspect(kubectl)
    failed = await_phase(kubectl, "Failed")
    stalled = next(each for each in failed["status"]["conditions"] if each["type"] == "Stalled")
    assert "2 x NVIDIA-A10G on 2 nodes hold it, which takes LeaderWorkerSet: install it" in stalled["message"]

    install(kubectl)
    build(kubelet)
    found = eventually("a LeaderWorkerSet", lambda: next(iter(kubectl.list("leaderworkersets")), None))
    template = found["spec"]["leaderWorkerTemplate"]
    assert (found["metadata"]["name"], found["spec"]["replicas"], template["size"]) == (GROUP, 1, 2)
    assert found["metadata"]["ownerReferences"][0]["uid"] == get(kubectl)["metadata"]["uid"]
    for pods in (template["leaderTemplate"], template["workerTemplate"]):
        (engine,) = pods["spec"]["containers"]
        assert engine["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert flag(engine["args"], "--pipeline-parallel-size") == "2"
    assert not kubectl.list("deployments")

    groups = GroupController(kubectl, GROUP)
    groups.make_group(0)
    kubelet.ready()
    groups.all_ready(1)
    served = await_phase(kubectl, "Ready")["status"]
    assert (served["replicas"], served["readyReplicas"], served["plan"]["nodes"]) == (1, 1, 2)
    selector = ",".join(f"{k}={v}" for k, v in kubectl.get("service", "support-bot")["spec"]["selector"].items())
    assert [pod["metadata"]["name"] for pod in kubectl.list("pods", "-l", selector)] == [f"{GROUP}-0"]

    writes = len(operator.control_plane.audit(operator.user))
    time.sleep(3 * RESYNC_SECONDS)
    assert len(operator.control_plane.audit(operator.user)) == writes
    assert operator.health() == 200

    kubectl("scale", "finetunedmodel", "support-bot", "--replicas=2")
    eventually("two groups are asked for", lambda: groups.get()["spec"]["replicas"] == 2)
    await_phase(kubectl, "Deploying")
    groups.make_group(1)
    kubelet.ready()
    groups.all_ready(2)
    assert await_phase(kubectl, "Ready")["status"]["readyReplicas"] == 2

    proxy = {"name": "proxy", "image": "proxy:1", "resources": {"limits": {"memory": "1024Mi"}}}
    asked = {"podTemplate": {"spec": {"containers": [proxy]}}, "disruptionBudget": {"minAvailable": "50%"}}
    kubectl("patch", "finetunedmodel", "support-bot", "--type=merge", "-p", json.dumps({"spec": {"serving": asked}}))
    template = eventually("a proxy in each pod", lambda: _with_proxies(groups.get()["spec"]["leaderWorkerTemplate"]))
    assert [len(pods["spec"]["containers"]) for pods in template] == [2, 2]
    assert kubectl.get("poddisruptionbudget", "support-bot")["spec"]["maxUnavailable"] == 1

    kubectl.delete("crd", LEADER_WORKER_SETS.name)
    await_phase(kubectl, "Failed")
    assert operator.health() == 200
    assert "Traceback" not in operator.log


def test_a_deployment_serves_until_the_groups_that_take_over_answer(kubectl: Kubectl) -> None:
    install(kubectl)
    kubelet = inspect(kubectl, maxModelLen=4096)
    build(kubelet)
    kubelet.starts()
    kubelet.ready()
    await_phase(kubectl, "Ready")
    kubectl("patch", "finetunedmodel", "support-bot", "--type=merge", "-p", '{"spec":{"serving":{"maxModelLen":8192}}}')
    groups = GroupController(kubectl, GROUP)
    eventually("a LeaderWorkerSet", lambda: kubectl.list("leaderworkersets"))
    waiting = await_phase(kubectl, "Deploying")["status"]
    assert waiting["readyReplicas"] == 1
    assert kubectl.list("deployments")
    groups.make_group(0)
    kubelet.ready()
    groups.all_ready(1)
    eventually("the Deployment is gone", lambda: not kubectl.list("deployments"))
    assert await_phase(kubectl, "Ready")["status"]["plan"]["nodes"] == 2
