"""A canary of a replica over two nodes: a LeaderWorkerSet beside the old one, on a real API server.

Neither a LeaderWorkerSet controller nor a gateway runs: the test makes the groups' pods, says when they are ready, and
takes up routes.
"""

import json
from collections.abc import Iterator

import pytest

from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import Kubelet, await_phase, eventually, get
from tests.cluster.leader_worker_set import GroupController
from tests.cluster.module_crds import HTTP_ROUTES
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.test_canary import (
    GATEWAY,
    NAME,
    annotate,
    await_progress,
    gateway_follows,
    key,
    versions,
    weights,
)
from tests.cluster.test_gpus import build, flag, inspect
from tests.cluster.test_leader_worker_sets import GROUP, install, operator

__all__ = ["operator"]
SERVING = {"strategy": "Canary", "gateway": GATEWAY, "canary": {"steps": [{"weight": 10}]}}
CANARY_GROUP = f"{NAME}-canary-nodes"
SEED = {"spec": {"serving": {"extraArgs": ["--seed", "1"]}}}


@pytest.fixture
def kubectl(operator: OperatorProcess) -> Iterator[Kubectl]:
    """The namespace, in a cluster with LeaderWorkerSets and HTTPRoutes."""
    cluster = operator.control_plane.kubectl
    install(cluster)
    inside = cluster.within(operator.namespace)
    with HTTP_ROUTES.installed(cluster):
        yield inside
        inside("delete", "finetunedmodels", "--all", "--wait")


def group_names(kubectl: Kubectl) -> list[str]:
    return [each["metadata"]["name"] for each in kubectl.list("leaderworkersets")]


def await_group(kubectl: Kubectl, name: str) -> GroupController:
    eventually(name, lambda: name in group_names(kubectl))
    return GroupController(kubectl, name)


def serve(kubectl: Kubectl) -> tuple[Kubelet, GroupController]:
    """Serves by one group of two nodes."""
    kubelet = inspect(kubectl, **SERVING)
    build(kubelet)
    groups = await_group(kubectl, GROUP)
    groups.make_group(0)
    kubelet.ready()
    groups.all_ready(1)
    await_phase(kubectl, "Ready")
    gateway_follows(kubectl)
    return kubelet, groups


def answer(kubelet: Kubelet, group: GroupController) -> None:
    """A new group of two pods answers."""
    group.make_group(0)
    for pod in (f"{group.name}-0", f"{group.name}-0-1"):
        kubelet.answers(pod)
    group.all_ready(1)


def backends(kubectl: Kubectl, service: str) -> list[str]:
    """The pods that a Service sends requests to."""
    selector = ",".join(
        f"{name}={value}" for name, value in kubectl.get("service", service)["spec"]["selector"].items()
    )
    return [pod["metadata"]["name"] for pod in kubectl.list("pods", "-l", selector)]


def seeds(group: GroupController) -> list[str | None]:
    """The seed that each of a group's two templates asks for."""
    template = group.get()["spec"]["leaderWorkerTemplate"]
    arguments = [template[name]["spec"]["containers"][0]["args"] for name in ("leaderTemplate", "workerTemplate")]
    return [flag(each, "--seed") if "--seed" in each else None for each in arguments]


def test_a_group_beside_the_old_one_gets_its_share_and_takes_its_place(
    kubectl: Kubectl, operator: OperatorProcess
) -> None:
    kubelet, groups = serve(kubectl)
    kubectl("patch", "finetunedmodel", NAME, "--type=merge", "-p", json.dumps(SEED))
    canary = await_group(kubectl, CANARY_GROUP)
    await_progress(kubectl, "Starting", 0)
    assert weights(kubectl) == [(NAME, 1)]
    assert (seeds(groups), seeds(canary)) == ([None, None], ["1", "1"])
    assert canary.get()["spec"]["replicas"] == 1

    answer(kubelet, canary)
    await_progress(kubectl, "Sharing", 0)
    assert weights(kubectl) == [(NAME, 90), (f"{NAME}-canary", 10)]
    assert backends(kubectl, NAME) == [f"{GROUP}-0"]
    assert backends(kubectl, f"{NAME}-canary") == [f"{CANARY_GROUP}-0"]
    gateway_follows(kubectl)
    eventually("the step has begun", lambda: "since" in get(kubectl)["status"]["canary"])

    annotate(kubectl, f"promote={key(kubectl, 'Canary')}/0")
    await_progress(kubectl, "Replacing", 0)
    eventually("the canary gets all requests", lambda: weights(kubectl)[-1] == (f"{NAME}-canary", 100))
    assert seeds(groups) == [None, None], "the only group of the old version ended before the gateway had followed"
    gateway_follows(kubectl)
    eventually("the old group is replaced", lambda: seeds(groups) == ["1", "1"])
    kubectl("delete", "pods", "-l", f"leaderworkerset.sigs.k8s.io/name={GROUP}", "--force")
    answer(kubelet, groups)

    await_progress(kubectl, "Leaving", 0)
    assert weights(kubectl) == [(NAME, 1)]
    gateway_follows(kubectl)
    eventually("the canary is gone", lambda: group_names(kubectl) == [GROUP])
    await_phase(kubectl, "Ready")
    assert versions(kubectl) == [("Serving", 100), ("Kept", None)]
    assert "Traceback" not in operator.log
