"""Versions that have served are kept, and one serves again at once when an annotation asks for it."""

import copy

from tests.unit.operator.objects import NAME, NAMESPACE, resource
from tests.unit.operator.reconcile.versions.canaries import (
    NEW,
    annotate,
    arguments,
    change,
    gateway_follows,
    has_canary,
    keys,
    remove_annotations,
    sharing,
    versions,
)
from tests.unit.operator.scene import Scene, scene_of, serving

PINNED = "serve-version"


def flags(scene: Scene, *words: str) -> None:
    """Rolls out a version with other arguments."""
    scene.edit(serving={**scene.resource()["spec"].get("serving", {}), "extraArgs": list(words)})
    scene.answer()


def several() -> Scene:
    """Returns a model that has served three versions."""
    scene = serving()
    flags(scene, "--seed", "1")
    flags(scene, "--seed", "2")
    return scene


def kept(scene: Scene) -> int:
    return len(scene.cache.keys("ControllerRevision"))


def test_each_version_that_has_served_is_kept_with_its_artifact() -> None:
    scene = several()
    assert versions(scene) == [("Serving", None), ("Kept", None), ("Kept", None)]
    assert [each["generation"] for each in scene.status()["versions"]] == [3, 2, 1]
    assert {each["uri"] for each in scene.status()["versions"]} == {scene.status()["artifacts"]["merged"]["uri"]}
    assert kept(scene) == 3
    assert not scene.once().actions


def test_a_version_that_never_answered_is_not_kept() -> None:
    scene = serving()
    scene.edit(serving={"extraArgs": ["--seed", "1"]})
    assert versions(scene) == [("Serving", None), ("Kept", None)]
    assert kept(scene) == 1


def test_no_more_are_kept_than_the_spec_says() -> None:
    scene = several()
    for number in range(3, 8):
        flags(scene, "--seed", str(number))
    assert kept(scene) == 4
    assert [each["generation"] for each in scene.status()["versions"]] == [8, 7, 6, 5]
    scene.edit(serving={"extraArgs": ["--seed", "7"], "keptVersions": 0})
    assert kept(scene) == 1


def test_a_version_serves_again_when_the_annotation_names_it() -> None:
    scene = several()
    first, meant = keys(scene, "Kept")[-1], keys(scene, "Serving")[0]
    jobs = len(scene.cache.keys("Job"))
    annotate(scene, PINNED, first)
    assert "--seed" not in arguments(scene)
    scene.answer()
    ready = scene.condition("Ready")
    assert ready.status == "True"
    assert ready.message == (
        f"1 of 1 replicas answer; version {first} serves as the annotation ftm.dev/serve-version asks; the spec means "
        f"{meant}: `ftm promote {NAME}` serves that"
    )
    assert len(scene.cache.keys("Job")) == jobs, "nothing is built"
    assert keys(scene, "Serving") == [first]
    assert keys(scene, "Kept")[0] == meant
    assert not scene.once().actions
    remove_annotations(scene)
    assert arguments(scene)[-1] == "2"
    scene.answer()
    assert keys(scene, "Serving") == [meant]


def test_a_version_serves_again_while_the_specs_own_cannot_be_built() -> None:
    scene = several()
    first = keys(scene, "Kept")[-1]
    scene.edit(base={"uri": "s3://models/wrong"})
    annotate(scene, PINNED, first)
    scene.refuse("inspect", "InvalidConfig", "no config.json")
    assert scene.stalled().reason == "InvalidConfig"
    assert f"version {first} serves" in scene.stalled().message
    assert "--seed" not in arguments(scene)
    scene.answer()
    assert keys(scene, "Serving") == [first]


def test_an_unknown_version_is_refused_with_those_that_there_are_and_what_serves_goes_on() -> None:
    scene = several()
    known = [each["key"] for each in scene.status()["versions"]]
    annotate(scene, PINNED, "nonsense")
    stalled = scene.stalled()
    assert stalled.reason == "VersionNotFound"
    assert f"names version nonsense, which is not kept; write one of {', '.join(known)}, or remove" in stalled.message
    assert arguments(scene)[-1] == "2"


def test_a_pin_of_what_serves_ends_a_canary_and_its_removal_starts_it_again() -> None:
    scene = sharing()
    annotate(scene, PINNED, keys(scene, "Serving")[0])
    gateway_follows(scene)
    scene.later(5)
    assert not has_canary(scene)
    assert scene.phase() == "Ready"
    assert versions(scene) == [("Serving", 100)]
    remove_annotations(scene)
    assert versions(scene) == [("Canary", None), ("Serving", 100)]


def test_replicas_and_what_the_gpus_allow_follow_while_a_version_is_pinned() -> None:
    scene = several()
    annotate(scene, PINNED, keys(scene, "Kept")[-1])
    scene.answer()
    scene.edit(serving={"extraArgs": ["--seed", "2"], "replicas": 3})
    assert scene.get("Deployment")["spec"]["replicas"] == 3
    assert "--seed" not in arguments(scene)


def test_drift_of_a_pinned_version_is_set_back() -> None:
    scene = several()
    annotate(scene, PINNED, keys(scene, "Kept")[-1])
    scene.answer()
    drifted = copy.deepcopy(scene.get("Deployment"))
    drifted["spec"]["template"]["spec"]["containers"][0]["image"] = "mine:1"
    scene.create(drifted)
    assert scene.get("Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] == "vllm:1"


def test_a_version_with_a_newer_image_of_the_installation_is_kept_anew() -> None:
    scene = serving()
    scene.settings = type(scene.settings)(
        **{**vars(scene.settings), "vllm_image": "vllm:2", "rollout_on_upgrade": True}
    )
    scene.settle()
    scene.answer()
    (name,) = scene.cache.keys("ControllerRevision")
    stored = scene.cache.get("ControllerRevision", name)
    assert stored
    assert "vllm:2" in str(stored["data"])
    assert not scene.once().actions


def test_a_revision_that_cannot_be_read_is_made_anew() -> None:
    scene = serving()
    (name,) = scene.cache.keys("ControllerRevision")
    spoiled = copy.deepcopy(scene.get("ControllerRevision", name[1]))
    spoiled["data"] = {"key": "x"}
    scene.create(spoiled)
    assert scene.get("ControllerRevision", name[1])["data"]["digest"]
    assert kept(scene) == 1


def test_adapters_beside_a_base_are_no_versions() -> None:
    scene = scene_of(resource(mode="Dynamic"))
    scene.reach("Deploying")
    scene.answer()
    assert not scene.cache.keys("ControllerRevision")
    assert "versions" not in scene.status()
    annotate(scene, PINNED, "0123456789abcdef")
    assert scene.stalled().reason == "VersionNotFound"
    assert NEW[0] not in arguments(scene)
    assert scene.cache.get("Deployment", (NAMESPACE, NAME))


def test_a_rollback_of_a_canarys_successor_goes_by_the_annotation_whatever_the_strategy() -> None:
    scene = sharing([{"weight": 30, "pauseSeconds": 60}])
    old = keys(scene, "Serving")[0]
    scene.later(60)
    annotate(scene, PINNED, old)
    assert NEW[0] not in arguments(scene)
    assert keys(scene, "Serving") == [old]
    change(scene)
    assert keys(scene, "Serving") == [old]
