"""A new version gets a growing share of the requests before it takes the old one's place."""

from dataclasses import replace

import pytest

from ftm_operator.resources.metadata import STEP
from tests.unit.operator.objects import NAME
from tests.unit.operator.reconcile.engines import ONE_A10G
from tests.unit.operator.reconcile.versions.canaries import (
    CANARY,
    NEW,
    STEPS,
    annotate,
    arguments,
    canary_answers,
    change,
    gateway_follows,
    has_canary,
    keys,
    progress,
    served,
    sharing,
    started,
    versions,
    weights,
)


def test_the_first_version_ever_goes_straight() -> None:
    scene = served()
    assert not has_canary(scene)
    assert weights(scene) == [(NAME, None)]
    assert versions(scene) == [("Serving", 100)]
    assert "canary" not in scene.status()


def test_a_new_version_starts_beside_the_old_one_and_gets_no_request() -> None:
    scene = started()
    assert NEW[0] in arguments(scene, CANARY)
    assert NEW[0] not in arguments(scene)
    assert weights(scene) == [(NAME, None)]
    assert versions(scene) == [("Canary", None), ("Serving", 100)]
    ready = scene.condition("Ready")
    assert (ready.status, ready.reason) == ("False", "Canary")
    assert "starts and gets no requests yet" in ready.message
    assert scene.condition("Available").status == "True"
    assert not scene.once().actions


def test_no_selector_of_what_serves_finds_a_pod_of_the_canary() -> None:
    scene = started()
    labels = scene.get("Deployment", CANARY)["spec"]["template"]["metadata"]["labels"]
    assert labels[STEP] == "canary"
    for selector in (
        scene.get("Service")["spec"]["selector"],
        scene.get("Deployment")["spec"]["selector"]["matchLabels"],
        dict(pair.split("=") for pair in scene.status()["selector"].split(",")),
    ):
        assert not selector.items() <= labels.items()
    assert scene.get("Service", CANARY)["spec"]["selector"].items() <= labels.items()


def test_a_step_begins_when_the_gateway_has_taken_up_its_share() -> None:
    scene = started()
    canary_answers(scene)
    assert weights(scene) == [(NAME, 90), (CANARY, 10)]
    assert progress(scene) == {"key": keys(scene, "Canary")[0], "step": 0, "state": "Sharing"}
    assert "has not taken up 10 percent of the requests, step 1 of 2," in scene.condition("Ready").message
    scene.later(100)
    gateway_follows(scene)
    assert progress(scene)["since"] == scene.moment()
    assert versions(scene) == [("Canary", 10), ("Serving", 90)]
    assert scene.once().retry_after == 300
    assert not scene.once().actions


def test_a_step_goes_on_after_its_pause() -> None:
    scene = sharing()
    scene.later(299)
    assert weights(scene)[1] == (CANARY, 10)
    scene.later(1)
    assert weights(scene) == [(NAME, 50), (CANARY, 50)]
    assert progress(scene)["step"] == 1


def test_a_step_without_a_pause_waits_for_a_promotion_of_this_step() -> None:
    scene = sharing()
    scene.later(300)
    gateway_follows(scene)
    key = keys(scene, "Canary")[0]
    scene.later(86_400)
    assert progress(scene)["step"] == 1
    assert f"ftm.dev/promote: {key}/1" in scene.condition("Ready").message
    annotate(scene, "promote", f"{key}/0")
    assert progress(scene)["state"] == "Sharing"
    annotate(scene, "promote", "0123456789abcdef/1")
    assert progress(scene)["state"] == "Sharing"
    annotate(scene, "promote", f"{key}/1")
    assert progress(scene)["state"] == "Replacing"


def test_after_the_last_step_it_takes_the_old_ones_place_and_the_canary_ends_once_the_gateway_has_followed() -> None:
    scene = sharing([{"weight": 30, "pauseSeconds": 60}])
    key = keys(scene, "Canary")[0]
    scene.later(60)
    assert NEW[0] in arguments(scene)
    assert weights(scene) == [(NAME, 70), (CANARY, 30)]
    assert versions(scene) == [("Canary", 30), ("Serving", 70)]
    scene.answer()
    assert weights(scene) == [(NAME, None)]
    assert keys(scene, "Serving") == [key]
    scene.later(6)
    assert has_canary(scene), "the Gateway still sends requests to it"
    gateway_follows(scene)
    assert not has_canary(scene)
    assert scene.phase() == "Ready"
    assert versions(scene) == [("Serving", 100), ("Kept", None)]
    assert "canary" not in scene.status()


def test_the_canarys_pods_stay_for_some_seconds_after_the_gateway_has_followed() -> None:
    scene = sharing([{"weight": 30, "pauseSeconds": 60}])
    scene.later(60)
    scene.answer()
    gateway_follows(scene)
    assert has_canary(scene)
    assert scene.once().retry_after == 5
    scene.later(5)
    assert not has_canary(scene)


def test_a_promotion_without_a_step_takes_all_steps_at_once() -> None:
    scene = started()
    annotate(scene, "promote", keys(scene, "Canary")[0])
    assert progress(scene)["state"] == "Starting", "its Pods do not answer yet"
    canary_answers(scene)
    assert progress(scene)["state"] == "Replacing"


def test_a_promotion_of_an_earlier_canary_of_the_same_version_is_not_followed_again() -> None:
    scene = started()
    key = keys(scene, "Canary")[0]
    change(scene, [])
    scene.later(60)
    assert not has_canary(scene)
    annotate(scene, "promote", key)
    change(scene)
    assert keys(scene, "Canary") == [key]
    canary_answers(scene)
    gateway_follows(scene)
    assert (progress(scene)["state"], progress(scene)["step"]) == ("Sharing", 0)
    annotate(scene, "promote", f"{key}/all")
    assert progress(scene)["state"] == "Replacing"


def test_another_version_midway_starts_again_and_gets_no_request_until_it_answers() -> None:
    scene = sharing()
    former = keys(scene, "Canary")
    change(scene, ["--max-num-seqs", "7"])
    assert keys(scene, "Canary") != former
    assert progress(scene)["state"] == "Starting"
    assert weights(scene) == [(NAME, None)]
    assert "7" in arguments(scene, CANARY)


def test_the_spec_of_what_serves_ends_the_canary() -> None:
    scene = sharing()
    change(scene, [])
    assert weights(scene) == [(NAME, None)]
    gateway_follows(scene)
    scene.later(5)
    assert not has_canary(scene)
    assert scene.phase() == "Ready"
    assert versions(scene) == [("Serving", 100)], "a version that never served is not kept"


def test_another_strategy_takes_the_new_version_at_once() -> None:
    scene = sharing()
    change(scene, strategy="Surge")
    assert NEW[0] in arguments(scene)
    assert weights(scene) == [(NAME, None)]


def test_what_changes_no_pod_makes_no_canary() -> None:
    scene = served()
    scene.edit(serving={**scene.resource()["spec"]["serving"], "replicas": 3})
    assert not has_canary(scene)
    assert scene.get("Deployment")["spec"]["replicas"] == 3


def test_replicas_of_what_serves_change_while_a_canary_goes_on() -> None:
    scene = sharing()
    change(scene, replicas=3)
    assert scene.get("Deployment")["spec"]["replicas"] == 3
    assert NEW[0] not in arguments(scene)
    assert scene.get("Deployment", CANARY)["spec"]["replicas"] == 1
    assert progress(scene)["state"] == "Sharing"


def test_suspended_nothing_moves() -> None:
    scene = sharing()
    scene.edit(suspend=True)
    scene.later(10_000)
    assert weights(scene) == [(NAME, 90), (CANARY, 10)]
    assert progress(scene)["step"] == 0


def test_without_a_gateway_api_the_strategy_is_refused_and_what_serves_goes_on() -> None:
    scene = served()
    scene.served_apis = frozenset()
    change(scene)
    stalled = scene.stalled()
    assert stalled.reason == "NoGateway"
    assert "install the Gateway API (its CRDs and a gateway), or set spec.serving.strategy to Auto" in stalled.message
    assert NEW[0] not in arguments(scene)
    assert scene.condition("Available").status == "True"


def test_while_a_third_version_is_built_the_canary_of_the_second_goes_on() -> None:
    scene = sharing([*STEPS[:1], {"weight": 50, "pauseSeconds": 300}])
    adapter = {"name": "other", "uri": "s3://models/adapters/other"}
    scene.edit(adapters=[*scene.resource()["spec"]["adapters"], adapter])
    assert scene.phase() == "Inspecting"
    scene.later(300)
    assert weights(scene) == [(NAME, 50), (CANARY, 50)]
    assert "gets" in scene.condition("Ready").message or "not taken up" in scene.condition("Ready").message


def test_the_only_old_replica_ends_once_all_requests_go_to_the_canary() -> None:
    two = tuple(replace(each, per_node=2) for each in ONE_A10G)
    scene = served([{"weight": 30, "pauseSeconds": 60}], two)
    change(scene, steps=[{"weight": 30, "pauseSeconds": 60}])
    canary_answers(scene)
    gateway_follows(scene)
    scene.later(60)
    assert weights(scene) == [(NAME, 0), (CANARY, 100)]
    assert NEW[0] not in arguments(scene), "the Gateway still sends requests to it"
    assert "before the only replica of the old version ends" in scene.condition("Ready").message
    gateway_follows(scene)
    assert NEW[0] in arguments(scene)
    assert scene.get("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
    assert weights(scene) == [(NAME, 0), (CANARY, 100)]
    scene.answer()
    assert weights(scene) == [(NAME, None)]


@pytest.mark.parametrize(("contested", "applies"), [(CANARY, 0), (NAME, 1)])
def test_a_canary_that_another_manager_sets_back_is_left_so(contested: str, applies: int) -> None:
    scene = sharing()
    scene.contested = {("Deployment", contested)}
    applied = len(scene.applied)
    changed = scene.get("Deployment", CANARY)
    scene.create({**changed, "spec": {**changed["spec"], "replicas": 7}})
    assert scene.applied[applied:].count(f"Deployment {CANARY}") == applies
