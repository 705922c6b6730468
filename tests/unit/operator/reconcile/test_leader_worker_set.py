"""A replica over several nodes: what its pods say, how it takes over from what served before, and how it gives way."""

import copy
from typing import Any

import pytest

from ftm_jobs.contract.facts import Facts
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, declared_classes
from ftm_operator.reconcile.engine_feedback import EngineLog, started
from ftm_operator.resources.serving.serving_labels import service_selector
from tests.unit.operator.kstatus import violations
from tests.unit.operator.objects import NAMESPACE, adapter_facts, resource
from tests.unit.operator.planning.catalogue import base_facts_of
from tests.unit.operator.resources.test_resources import model
from tests.unit.operator.scene import Scene, scene_of

MISTRAL = Facts(base=base_facts_of("mistral-7b-v0.1"), adapters=(adapter_facts(),))
ONE_EACH = tuple(declared_classes([{"name": "A10G", "perNode": 1, "nodes": 2}]))
TWO_EACH = tuple(declared_classes([{"name": "A10G", "perNode": 2, "nodes": 2}]))
LARGE = {"dtype": "float16", "maxModelLen": 8192}
"""Takes two A10Gs."""
SMALL = {"dtype": "float16", "maxModelLen": 4096}
"""Takes one."""


def planned(serving: dict[str, Any], gpus: tuple[AcceleratorClass, ...] = ONE_EACH, *, several_nodes: bool) -> Scene:
    """Returns a model that has just been inspected."""
    scene = scene_of(resource(serving=serving), found=MISTRAL, gpus=gpus, several_nodes=several_nodes)
    scene.inspect()
    return scene


def built(serving: dict[str, Any] | None = None, gpus: tuple[AcceleratorClass, ...] = ONE_EACH) -> Scene:
    """Returns a model whose Deployment or LeaderWorkerSet has just been made."""
    scene = planned(serving or LARGE, gpus, several_nodes=True)
    scene.reach("Deploying")
    return scene


def spread(scene: Scene) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the templates of the leader's pod and of a worker's."""
    group = scene.groups()["spec"]["leaderWorkerTemplate"]
    return group["leaderTemplate"], group["workerTemplate"]


def container(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = template["spec"]["containers"]
    return dict(found)


def flag(template: dict[str, Any], name: str) -> str:
    arguments = container(template)["args"]
    return str(arguments[arguments.index(name) + 1])


def kinds(scene: Scene) -> set[str]:
    return {kind for kind in ("Deployment", "LeaderWorkerSet") if scene.cache.keys(kind)}


def test_stages_are_across_nodes_and_tensor_parallelism_is_inside() -> None:
    scene = built({**LARGE, "maxModelLen": 16384, "concurrency": 32, "tensorParallelSize": 2}, TWO_EACH)
    assert scene.status()["plan"]["nodes"] == 2
    assert kinds(scene) == {"LeaderWorkerSet"}
    group = scene.groups()
    assert group["spec"]["replicas"] == 1
    assert group["spec"]["leaderWorkerTemplate"]["size"] == 2
    for template in spread(scene):
        assert flag(template, "--tensor-parallel-size") == "2"
        assert flag(template, "--pipeline-parallel-size") == "2"
        assert flag(template, "--nnodes") == "2"
        assert container(template)["resources"]["limits"] == {"nvidia.com/gpu": "2"}


def test_each_node_knows_its_rank_and_where_the_first_one_is() -> None:
    leader, worker = spread(built())
    assert (flag(leader, "--node-rank"), flag(worker, "--node-rank")) == ("0", "$(LWS_WORKER_INDEX)")
    for template in (leader, worker):
        assert flag(template, "--master-addr") == "$(LWS_LEADER_ADDRESS)"
        assert flag(template, "--master-port") == "29501"
        assert container(template)["command"] == ["vllm", "serve", "/model"]
    assert "--headless" in container(worker)["args"]
    assert "--headless" not in container(leader)["args"]


def test_the_leader_alone_answers_is_probed_and_drains() -> None:
    leader, worker = (container(template) for template in spread(built()))
    for field in ("ports", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
        assert field in leader
        assert field not in worker


def test_the_service_selects_leaders_and_a_deployments_pods_and_no_workers() -> None:
    selector = service_selector(model(), "vllm", ()).items()
    leader, worker = spread(built())
    assert selector <= leader["metadata"]["labels"].items()
    assert not selector <= worker["metadata"]["labels"].items()


def test_every_node_fetches_the_model_itself_and_is_as_locked_down_as_any_pod() -> None:
    leader, worker = (template["spec"] for template in spread(built({**LARGE, "nodeSelector": {"pool": "a"}})))
    assert leader["initContainers"] == worker["initContainers"]
    assert leader["volumes"] == worker["volumes"]
    for pod in (leader, worker):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["nodeSelector"] == {"pool": "a"}
        assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_group_has_a_name_of_its_own_since_its_nodes_meet_at_a_headless_service_of_that_name() -> None:
    scene = built()
    group, shown = scene.groups(), scene.get("Service")
    assert group["metadata"]["name"] != shown["metadata"]["name"]
    assert group["metadata"]["ownerReferences"][0]["uid"] == "uid-support-bot"


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [(2, {"maxUnavailable": 1, "maxSurge": 0}), (4, {"maxUnavailable": "1%", "maxSurge": 1})],
)
def test_a_new_group_comes_first_where_there_are_nodes_for_it(nodes: int, expected: dict[str, Any]) -> None:
    gpus = tuple(declared_classes([{"name": "A10G", "perNode": 1, "nodes": nodes}]))
    rolling = built(gpus=gpus).groups()["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]
    assert rolling == expected, "a plain 0 of maxUnavailable is refused by the StatefulSet"


def test_without_leader_worker_sets_it_is_refused_with_what_to_install_and_goes_on_once_they_are_there() -> None:
    scene = planned(LARGE, several_nodes=False)
    stalled = scene.stalled()
    assert stalled.reason == "Memory"
    assert stalled.message.endswith(
        "; 2 x A10G on 2 nodes hold it, which takes LeaderWorkerSet: install it (its CRD and controller), or choose "
        "larger GPUs"
    )
    scene.several_nodes = True
    scene.settle()
    assert scene.phase() == "Merging"
    assert scene.status()["plan"]["nodes"] == 2


def test_where_one_node_holds_it_a_deployment_serves_although_there_are_leader_worker_sets() -> None:
    assert kinds(built(SMALL)) == {"Deployment"}


def test_it_is_ready_when_its_groups_answer_and_counts_groups() -> None:
    scene = built({**LARGE, "replicas": 2})
    scene.groups_answer(1)
    assert scene.condition("Ready").message == "1 of 2 new replicas answer"
    scene.groups_answer(2)
    found = scene.status()
    assert found["phase"] == "Ready"
    assert (found["replicas"], found["readyReplicas"]) == (2, 2)
    assert found["endpoint"] == "http://support-bot.team-a.svc/v1"
    assert not violations(scene.resource())
    assert not scene.once().actions


def test_scaling_changes_the_number_of_groups_and_nothing_else() -> None:
    scene = built()
    scene.groups_answer()
    before = copy.deepcopy(scene.groups()["spec"]["leaderWorkerTemplate"])
    scene.edit(serving={**LARGE, "replicas": 3})
    assert scene.groups()["spec"]["replicas"] == 3
    assert scene.groups()["spec"]["leaderWorkerTemplate"] == before
    assert scene.phase() == "Deploying"
    scene.edit(serving={**LARGE, "replicas": 0})
    scene.groups_answer(0)
    assert scene.phase() == "Ready"


@pytest.mark.parametrize("behind", ["the old template", "a leader that does not answer"])
def test_a_status_of_an_older_spec_is_not_taken_for_the_new_ones(behind: str) -> None:
    scene = built()
    scene.groups_answer(leaders_ready=behind == "the old template")
    if behind == "the old template":
        assert scene.phase() == "Ready"
        scene.edit(serving={**LARGE, "extraArgs": ["--enforce-eager"]})
    assert scene.phase() == "Deploying"


def test_a_group_that_no_controller_takes_up_says_so() -> None:
    assert built().condition("Ready").message == (
        "LeaderWorkerSet support-bot-nodes is not taken up yet; if this lasts, install or mend its controller"
    )


def test_a_workers_trouble_is_told() -> None:
    scene = built()
    scene.groups_answer(0)
    unplaced = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}
    scene.group_pod("workerTemplate", "0-1", ready=False, conditions=[unplaced])
    scene.settle()
    assert scene.condition("Ready").message == "0 of 1 new replicas answer; 0/1 nodes are available"


def test_what_serves_on_one_node_serves_until_the_groups_answer() -> None:
    scene = built(SMALL)
    scene.answer()
    scene.edit(serving=LARGE)
    assert kinds(scene) == {"Deployment", "LeaderWorkerSet"}
    assert scene.condition("Available").status == "True"
    assert scene.status()["readyReplicas"] == 1
    scene.create(scene.groups() | {"status": {"replicas": 1}})
    assert (scene.status()["replicas"], scene.status()["readyReplicas"]) == (2, 1)
    scene.groups_answer()
    assert kinds(scene) == {"LeaderWorkerSet"}
    assert (scene.phase(), scene.status()["readyReplicas"]) == ("Ready", 1)


def test_groups_serve_until_a_deployment_that_takes_over_answers() -> None:
    scene = built()
    scene.groups_answer()
    scene.edit(serving=SMALL)
    assert kinds(scene) == {"Deployment", "LeaderWorkerSet"}
    scene.answer()
    assert kinds(scene) == {"Deployment"}


def test_what_is_somebody_elses_is_neither_taken_nor_deleted() -> None:
    scene = planned(LARGE, several_nodes=True)
    metadata = {"name": "support-bot", "namespace": NAMESPACE, "generation": 1}
    scene.put({"kind": "Deployment", "metadata": metadata, "spec": {}, "status": {"replicas": 7}})
    group = {"kind": "LeaderWorkerSet", "metadata": {"name": "support-bot-nodes", "namespace": NAMESPACE}, "spec": {}}
    scene.put(group)
    scene.reach("Verifying")
    scene.verify()
    stalled = scene.stalled()
    assert stalled.message.startswith("LeaderWorkerSet support-bot-nodes exists and is not this FineTunedModel's")
    assert scene.status()["replicas"] == 0
    scene.cache.remove("LeaderWorkerSet", (NAMESPACE, "support-bot-nodes"))
    scene.settle()
    scene.groups_answer()
    assert scene.phase() == "Ready"
    assert kinds(scene) == {"Deployment", "LeaderWorkerSet"}


def test_when_leader_worker_sets_go_what_served_over_nodes_is_refused_again() -> None:
    scene = built()
    scene.groups_answer()
    scene.several_nodes = False
    scene.cache.forget("LeaderWorkerSet")
    scene.settle()
    assert scene.phase() == "Failed"
    assert "endpoint" not in scene.status()


def test_drift_is_repaired_and_what_its_webhook_and_schema_default_is_none() -> None:
    scene = built()
    scene.groups_answer()
    live = copy.deepcopy(scene.groups())
    live["spec"]["networkConfig"] = {"subdomainPolicy": "Shared"}
    live["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["partition"] = 0
    scene.put(live)
    assert not scene.once().actions
    live["spec"]["leaderWorkerTemplate"]["size"] = 3
    scene.put(live)
    (action,) = scene.once().actions
    assert action.manifest["spec"]["leaderWorkerTemplate"]["size"] == 2


def test_the_leaders_log_tells_what_was_measured_and_a_workers_is_not_read_for_it() -> None:
    scene = built()
    worker = scene.group_pod("workerTemplate", "0-1", ready=True)
    leader = scene.group_pod("leaderTemplate", "0", ready=True)
    assert started([worker]) is None
    assert started([worker, leader]) == EngineLog("support-bot-nodes-0", failed=False)
    scene.groups_answer()
    assert scene.awaited_log() == started([leader])
