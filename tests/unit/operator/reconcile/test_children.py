"""Children that drift are set right, and those of others are left alone."""

import copy

from tests.unit.operator.objects import NAMESPACE, resource
from tests.unit.operator.scene import scene_of, serving


def test_drift_is_repaired_and_named() -> None:
    scene = serving()
    changed = copy.deepcopy(scene.get("Deployment"))
    changed["spec"]["replicas"] = 5
    scene.put(changed)
    (action,) = scene.once().actions
    assert action.why == "spec.replicas: 5, should be 1"  # type: ignore[union-attr]


def test_a_name_that_somebody_else_holds_is_not_taken() -> None:
    scene = scene_of()
    scene.create(
        {"kind": "Deployment", "metadata": {"name": "support-bot", "namespace": NAMESPACE}, "spec": {"replicas": 1}}
    )
    before = scene.get("Deployment")
    scene.reach("Verifying")
    scene.verify()
    stalled = scene.stalled()
    assert stalled.reason == "NameTaken"
    assert scene.get("Deployment") == before


def test_what_a_deletion_orphaned_serves_on_and_is_adopted_by_the_next_of_its_name() -> None:
    before = serving()
    orphans = [copy.deepcopy(before.get(kind)) for kind in ("Deployment", "Service")]
    scene = scene_of(resource() | {"metadata": resource()["metadata"] | {"uid": "another"}})
    for orphan in orphans:
        del orphan["metadata"]["ownerReferences"]
        scene.put(orphan)
    scene.reach("Ready")
    for orphan in orphans:
        adopted = scene.get(orphan["kind"])
        assert [owner["uid"] for owner in adopted["metadata"]["ownerReferences"]] == ["another"]
        assert adopted["spec"] == orphan["spec"]
