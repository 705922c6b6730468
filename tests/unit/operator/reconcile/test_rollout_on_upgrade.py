"""A newer installation moves nothing that serves: its images and its Pods are rolled out by choice."""

import copy
from dataclasses import replace

from ftm_operator.reconcile.engine_feedback import EngineMemory
from tests.unit.operator.objects import SETTINGS, Manifest
from tests.unit.operator.reconcile.engines import A10G, SERVING, TOLD, answering, deploying
from tests.unit.operator.reconcile.test_leader_worker_set import built
from tests.unit.operator.scene import Scene, serving

NEWER = replace(SETTINGS, jobs_image="jobs:2", vllm_image="vllm:2", image_pull_policy="Always")


def template(scene: Scene) -> Manifest:
    return dict(scene.get("Deployment")["spec"]["template"])


def engine_image(scene: Scene) -> str:
    return str(template(scene)["spec"]["containers"][0]["image"])


def upgraded(scene: Scene, settings: object = NEWER) -> Scene:
    scene.settings = settings  # type: ignore[assignment]
    scene.settle()
    return scene


def test_pods_stay_byte_for_byte_and_the_message_says_what_waits() -> None:
    scene = serving()
    before, applied = copy.deepcopy(scene.get("Deployment")), len(scene.applied)
    upgraded(scene)
    assert scene.get("Deployment") == before
    assert len(scene.applied) == applied
    ready = scene.condition("Ready")
    assert ready.status == "True"
    assert ready.message == (
        "1 of 1 replicas answer; the installation's vllm:2 is not rolled out in the place of vllm:1 until spec.serving "
        "changes, or the annotation ftm.dev/rollout"
    )


def test_pods_that_only_the_operator_would_make_otherwise_stay_too() -> None:
    scene = upgraded(serving(), replace(SETTINGS, jobs_image="jobs:2"))
    assert template(scene)["spec"]["initContainers"][0]["image"] == "jobs:1"
    assert "the Pods stay as an earlier version of the operator made them" in scene.condition("Ready").message


def test_a_change_of_the_spec_takes_what_the_installation_has_now() -> None:
    scene = upgraded(serving())
    scene.edit(serving={"extraArgs": ["--enforce-eager"]})
    assert engine_image(scene) == "vllm:2"


def test_the_annotation_takes_it_without_a_change() -> None:
    scene = upgraded(serving())
    scene.edit(annotations={"ftm.dev/rollout": "2026-11-28"})
    assert engine_image(scene) == "vllm:2"


def test_an_installation_that_rolls_out_on_upgrade_does() -> None:
    assert engine_image(upgraded(serving(), replace(NEWER, rollout_on_upgrade=True))) == "vllm:2"


def test_the_spec_may_name_the_image_and_no_upgrade_changes_it() -> None:
    scene = serving()
    scene.edit(serving={"image": "registry.test/vllm:mine"})
    assert engine_image(scene) == "registry.test/vllm:mine"
    assert engine_image(upgraded(scene, replace(NEWER, rollout_on_upgrade=True))) == "registry.test/vllm:mine"


def test_replicas_and_the_strategy_follow_while_the_pods_stay() -> None:
    scene = upgraded(serving())
    before = template(scene)
    scene.edit(serving={"replicas": 3, "strategy": "Recreate"})
    assert template(scene) == before
    assert scene.get("Deployment")["spec"]["replicas"] == 3
    assert scene.get("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_drift_is_set_back_to_what_was_applied() -> None:
    scene = upgraded(serving())
    drifted = copy.deepcopy(scene.get("Deployment"))
    drifted["spec"]["template"]["spec"]["containers"][0]["image"] = "mine:1"
    scene.put(drifted)
    scene.settle()
    assert engine_image(scene) == "vllm:1"


def test_what_a_version_without_memory_made_stays_where_the_spec_was_served() -> None:
    scene = serving()
    older = copy.deepcopy(scene.get("Deployment"))
    for name in ("ftm.dev/serving-inputs", "ftm.dev/applied-template"):
        del older["metadata"]["annotations"][name]
    older["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    scene.put(older)
    upgraded(scene)
    assert scene.get("Deployment")["spec"] == older["spec"]
    applied = len(scene.applied)
    scene.later(60)
    assert len(scene.applied) == applied
    scene.edit(serving={"extraArgs": ["--enforce-eager"]})
    assert engine_image(scene) == "vllm:2"


def test_a_new_artifact_or_plan_is_rolled_out_with_what_the_installation_has_now() -> None:
    scene = upgraded(answering(deploying(A10G)))
    assert engine_image(scene) == "vllm:1"
    scene.edit(serving={**SERVING, "maxModelLen": 1024})
    assert engine_image(scene) == "vllm:2"


def test_groups_of_several_nodes_stay_too() -> None:
    scene = built()
    scene.groups_answer()
    before = copy.deepcopy(scene.groups())
    upgraded(scene)
    assert scene.groups() == before
    scene.edit(annotations={"ftm.dev/rollout": "now"})
    leader = scene.groups()["spec"]["leaderWorkerTemplate"]["leaderTemplate"]
    assert leader["spec"]["containers"][0]["image"] == "vllm:2"


def test_what_never_answered_takes_what_may_mend_it() -> None:
    scene = upgraded(deploying(A10G))
    assert engine_image(scene) == "vllm:2"


def test_what_answered_stays_while_its_node_is_away() -> None:
    scene = serving()
    lost = copy.deepcopy(scene.get("Deployment"))
    complete = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    lost["status"] |= {"availableReplicas": 0, "readyReplicas": 0, "conditions": [complete]}
    scene.put(lost)
    assert engine_image(upgraded(scene)) == "vllm:1"


def test_a_measurement_is_kept_for_the_image_that_serves() -> None:
    scene = upgraded(answering(deploying(A10G)))
    scene.engine_logs(EngineMemory(measured=TOLD))
    assert {each.engine for each in scene.measurements.values()} == {"vllm:1"}
