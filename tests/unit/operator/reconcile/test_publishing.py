"""What is verified is pushed to a registry before it is served, once, and only where the spec names a registry."""

from typing import Any

import pytest

from ftm_jobs.contract.steps import Step
from tests.unit.operator.objects import report, resource
from tests.unit.operator.scene import Scene, scene_of

REPOSITORY = "registry.example.com/models"
STORE = {"uri": "s3://artifacts/built", "secretName": "artifacts-s3"}
OCI: dict[str, Any] = {"artifacts": {**STORE, "oci": {"repository": REPOSITORY, "secretName": "registry-login"}}}


@pytest.fixture
def scene() -> Scene:
    """A resource whose push is under way."""
    made = scene_of(resource(**OCI))
    made.reach("Publishing")
    return made


def test_the_job_pushes_what_is_to_be_served_with_the_secrets_of_store_and_registry(scene: Scene) -> None:
    (job,) = scene.jobs("publish")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    merged = scene.status()["artifacts"]["merged"]
    artifact = f"{merged['uri']},digest={merged['digest']},credentials=/var/run/ftm/model/artifacts-s3"
    assert container["args"][:7] == [
        "publish",
        *("--artifact", artifact),
        *("--to", REPOSITORY),
        *("--registry-credentials", "/var/run/ftm/registry/registry-login"),
    ]
    assert container["image"] == "jobs:1"
    assert {"secretName": "registry-login", "optional": True} in [volume.get("secret") for volume in pod["volumes"]]
    assert (scene.condition("Published").reason, scene.condition("Ready").reason) == ("Publishing", "Publishing")


def test_what_is_quantized_is_pushed_in_the_place_of_the_merged_model() -> None:
    scene = scene_of(resource(**OCI, quantization={"method": "AWQ"}))
    scene.reach("Publishing")
    assert scene.argument("publish", "--artifact").startswith(scene.status()["artifacts"]["quantized"]["uri"])


def test_the_image_is_in_status_by_its_digest_and_is_served_next(scene: Scene) -> None:
    image = scene.publish()
    assert scene.status()["artifacts"]["image"] == image
    assert scene.condition("Published").message == image
    assert "Normal Published" in scene.events
    assert scene.phase() == "Deploying"


def test_nothing_is_pushed_again_while_artifact_and_repository_are_the_same(scene: Scene) -> None:
    scene.publish()
    scene.reach("Ready")
    scene.edit(serving={"replicas": 3})
    assert len(scene.jobs("publish")) == 1
    scene.edit(artifacts={**STORE, "oci": {"repository": "registry.example.com/others"}})
    assert scene.phase() == "Publishing"
    assert scene.argument("publish", "--to") == "registry.example.com/others"


def test_the_refresh_annotation_pushes_an_image_again_that_was_deleted(scene: Scene) -> None:
    scene.publish()
    scene.reach("Ready")
    scene.edit(annotations={"ftm.dev/refresh": "again"})
    scene.inspect()
    assert scene.phase() == "Publishing"


def test_a_refused_push_holds_the_rollout_with_the_registrys_words(scene: Scene) -> None:
    scene.refuse("publish", "AccessDenied", "registry.example.com/models: the registry refuses the push")
    assert scene.stalled().reason == "AccessDenied"
    assert scene.condition("Published").message == "registry.example.com/models: the registry refuses the push"


def test_a_model_without_a_registry_has_no_condition_of_it() -> None:
    scene = scene_of()
    scene.reach("Ready")
    assert "Published" not in {condition["type"] for condition in scene.status()["conditions"]}
    assert scene.jobs("publish") == []


def test_the_image_leaves_status_with_the_registry(scene: Scene) -> None:
    scene.publish()
    scene.edit(artifacts=STORE)
    assert "image" not in scene.status()["artifacts"]
    assert "publishedInputHash" not in scene.status()["artifacts"]
    assert "Published" not in {condition["type"] for condition in scene.status()["conditions"]}


def test_a_base_that_is_served_as_it_is_stored_is_not_pushed() -> None:
    scene = scene_of(resource(**OCI, mode="Dynamic"))
    scene.reach("Deploying")
    published = scene.condition("Published")
    assert (published.status, published.reason) == ("True", "NotPublished")


def test_a_report_without_an_image_is_incomplete(scene: Scene) -> None:
    scene.end_job("publish", report(Step.PUBLISH, "Published"))
    assert scene.stalled().reason == "IncompleteReport"
