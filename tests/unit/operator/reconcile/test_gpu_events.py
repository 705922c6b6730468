"""GPUs that come and go move nothing that was planned for them, whether it serves or is still being built."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.operator.objects import resource
from tests.unit.operator.reconcile.engines import A10G, L4, SERVING, answering, deploying
from tests.unit.operator.scene import Scene, scene_of

OFFERS = ((), A10G, L4, (*A10G, *L4))


def replicas_answer(scene: Scene, count: int) -> None:
    deployment = scene.get("Deployment")
    counts = dict.fromkeys(("readyReplicas", "availableReplicas"), count)
    scene.create({**deployment, "status": deployment["status"] | counts})


node_events = st.lists(
    st.one_of(
        st.sampled_from(OFFERS).map(lambda gpus: lambda scene: scene.offer(gpus)),
        st.integers(0, 1).map(lambda count: lambda scene: replicas_answer(scene, count)),
        st.just(lambda scene: scene.later(3600)),
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(node_events)
def test_the_plan_of_what_serves_changes_by_no_event_of_a_node(events: list) -> None:  # type: ignore[type-arg]
    scene = answering(deploying())
    planned, template, applied = scene.plan(), scene.get("Deployment")["spec"], len(scene.applied)
    for event in events:
        event(scene)
    assert scene.plan() == planned
    assert scene.get("Deployment")["spec"] == template
    assert len(scene.applied) == applied


def test_a_pool_that_is_scaled_to_zero_during_a_merge_is_waited_for() -> None:
    scene = scene_of(resource(serving=SERVING), gpus=A10G)
    scene.reach("Merging")
    planned = scene.plan()
    scene.offer(())
    assert scene.plan() == planned
    scene.reach("Deploying")
    assert scene.plan() == planned
    assert scene.condition("Ready").message.endswith(
        "; no node offers A10G, for which this was planned; it waits for one, and the annotation ftm.dev/refresh plans "
        "it anew"
    )
    scene.offer(A10G)
    assert "no node offers" not in scene.condition("Ready").message


def test_the_refresh_annotation_plans_for_the_gpus_that_are_there() -> None:
    scene = answering(deploying())
    scene.offer(L4)
    scene.edit(annotations={"ftm.dev/refresh": "1"})
    scene.reach("Deploying")
    assert scene.plan()["acceleratorClass"] == "L4"


def test_a_plan_that_was_made_without_gpus_and_serves_stays_when_gpus_come() -> None:
    scene = scene_of(resource(serving=SERVING))
    scene.reach("Ready")
    planned = scene.plan()
    replicas_answer(scene, 0)
    scene.offer(A10G)
    assert scene.plan() == planned
