"""A rollout never waits for GPUs that do not exist, and its strategy moves nothing by itself."""

from tests.unit.operator.reconcile.engines import A10G, ONE_A10G, SERVING, answering, deploying
from tests.unit.operator.scene import Scene


def strategy(scene: Scene) -> dict[str, int]:
    return dict(scene.get("Deployment")["spec"]["strategy"]["rollingUpdate"])


BESIDE, AFTER = {"maxUnavailable": 0, "maxSurge": 1}, {"maxUnavailable": 1, "maxSurge": 0}


def test_with_one_gpu_the_old_version_makes_way_and_the_message_says_why() -> None:
    scene = answering(deploying(ONE_A10G))
    scene.edit(serving={**SERVING, "env": [{"name": "A", "value": "1"}]})
    assert strategy(scene) == AFTER
    deployment = scene.get("Deployment")
    scene.create({**deployment, "status": deployment["status"] | {"updatedReplicas": 0}})
    observed = {"observedGeneration": deployment["metadata"]["generation"]}
    scene.create({**deployment, "status": deployment["status"] | observed | {"updatedReplicas": 0}})
    assert "an old replica ends before a new one: 1 x A10G hold 1 replicas" in scene.condition("Ready").message
    answering(scene)
    assert scene.phase() == "Ready"


def test_with_more_gpus_the_old_version_serves_until_the_new_one_answers() -> None:
    scene = answering(deploying(A10G))
    scene.edit(serving={**SERVING, "env": [{"name": "A", "value": "1"}]})
    assert strategy(scene) == BESIDE


def test_the_strategy_follows_no_gpu_while_there_is_nothing_to_roll_out() -> None:
    scene = answering(deploying(A10G))
    applied = len(scene.applied)
    scene.offer(ONE_A10G)
    assert strategy(scene) == BESIDE
    assert len(scene.applied) == applied


def test_the_spec_forces_either_at_once() -> None:
    scene = answering(deploying(A10G))
    scene.edit(serving={**SERVING, "strategy": "Recreate"})
    assert strategy(scene) == AFTER
    scene.edit(serving={**SERVING, "strategy": "Surge"})
    assert strategy(scene) == BESIDE
