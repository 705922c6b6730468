"""Weights come to the engine as the spec says, or it is refused by name before anything is built."""

from typing import Any

import pytest

from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.v1alpha1 import FineTunedModel
from tests.unit.operator.objects import Manifest, resource, verified_report
from tests.unit.operator.scene import Scene, scene_of

STORE = {"uri": "s3://artifacts/built", "secretName": "artifacts-s3"}
OCI = {"artifacts": {**STORE, "oci": {"repository": "registry.example.com/models", "secretName": "registry-login"}}}
LLAMA_CPP = {"engine": "LlamaCpp"}


def loaded(loading: str, serving: dict[str, Any] | None = None, **spec: Any) -> Manifest:
    return resource(serving={"loading": loading, **(serving or {})}, **spec)


def pod_of_deployment(scene: Scene) -> Manifest:
    spec: Manifest = scene.get("Deployment")["spec"]["template"]["spec"]
    return spec


def volumes(pod: Manifest) -> dict[str, Manifest]:
    return {volume["name"]: volume for volume in pod["volumes"]}


def containers(pod: Manifest) -> dict[str, Manifest]:
    return {container["name"]: container for container in (*pod.get("initContainers", []), *pod["containers"])}


@pytest.fixture
def mounted() -> Scene:
    """A model whose image is mounted."""
    scene = scene_of(loaded("Image", **OCI))
    scene.reach("Deploying")
    return scene


def test_an_image_is_mounted_by_its_digest_where_the_engine_looks_for_its_model(mounted: Scene) -> None:
    pod = pod_of_deployment(mounted)
    image = mounted.status()["artifacts"]["image"]
    assert image.startswith("registry.example.com/models@sha256:")
    assert volumes(pod)["model"] == {"name": "model", "image": {"reference": image, "pullPolicy": "IfNotPresent"}}
    engine = containers(pod)["vllm"]
    assert {"name": "model", "mountPath": "/model", "readOnly": True} in engine["volumeMounts"]
    assert ["--model", "/model"] in [engine["args"][at : at + 2] for at in range(len(engine["args"]))]


def test_nothing_is_fetched_beside_an_image_but_the_guard_is_written(mounted: Scene) -> None:
    pod = pod_of_deployment(mounted)
    fetch = containers(pod)["fetch"]
    assert fetch["args"][:3] == ["fetch", "--guard", "/var/run/ftm-guard"]
    assert "ephemeral-storage" not in fetch["resources"]["requests"]
    assert "artifacts-s3" not in str(pod)


def test_the_kubelet_pulls_with_the_registrys_secret(mounted: Scene) -> None:
    assert pod_of_deployment(mounted)["imagePullSecrets"] == [{"name": "registry-login"}]


def test_an_engine_that_is_held_against_its_verification_has_the_stores_secret_beside_an_image() -> None:
    scene = scene_of(loaded("Image", **OCI, verification={"served": "Checked"}))
    scene.reach("Verifying")
    kept = Artifact(
        key="reference-1", uri="s3://artifacts/built/reference-1", digest="sha256:r", total_bytes=9, files=1
    )
    scene.end_job("verify", verified_report().model_copy(update={"reference": kept}))
    scene.publish()
    pod = pod_of_deployment(scene)
    assert containers(pod)["served"]["args"][2].startswith(kept.uri)
    assert volumes(pod)["artifacts-credentials"]["secret"]["secretName"] == "artifacts-s3"


def test_llama_server_needs_no_container_before_it_beside_an_image() -> None:
    scene = scene_of(loaded("Image", LLAMA_CPP, **OCI))
    scene.reach("Deploying")
    pod = pod_of_deployment(scene)
    assert "initContainers" not in pod
    assert "image" in volumes(pod)["model"]


def test_another_image_rolls_out_new_pods(mounted: Scene) -> None:
    before = mounted.get("Deployment")["spec"]["template"]
    mounted.answer()
    elsewhere = {"repository": "registry.example.com/others", "secretName": "registry-login"}
    mounted.edit(artifacts={**STORE, "oci": elsewhere})
    mounted.publish()
    after = mounted.get("Deployment")["spec"]["template"]
    assert volumes(after["spec"])["model"]["image"]["reference"].startswith("registry.example.com/others@")
    assert after != before


@pytest.mark.parametrize("version", ["v1.31.4", "v1.35.0-gke.1", "v1.9.0"])
def test_an_older_cluster_is_refused_by_its_version_before_anything_is_built(version: str) -> None:
    scene = scene_of(loaded("Image", **OCI))
    scene.kubernetes = version
    scene.inspect()
    assert scene.stalled().reason == "LoadingNotPossible"
    assert scene.stalled().message == (
        f"spec.serving.loading Image takes Kubernetes 1.36 and newer, and this is {version}; set it to Fetch"
    )
    assert scene.jobs("merge") == []
    scene.edit(serving={"loading": "Fetch"})
    assert scene.phase() == "Merging"


@pytest.mark.parametrize("version", ["v1.36.0", "v1.37.2+k3s1", "v2.0.0", None])
def test_a_newer_cluster_is_not_refused(version: str | None) -> None:
    scene = scene_of(loaded("Image", **OCI))
    scene.kubernetes = version
    scene.inspect()
    assert scene.phase() == "Merging"


def test_weights_are_streamed_from_the_store_and_all_else_is_fetched_and_proven() -> None:
    scene = scene_of(loaded("Stream"))
    scene.reach("Deploying")
    pod, merged = pod_of_deployment(scene), scene.status()["artifacts"]["merged"]
    engine, fetch = containers(pod)["vllm"], containers(pod)["fetch"]
    words = engine["args"]
    flags = {flag: words[words.index(flag) + 1] for flag in words if flag.startswith("--")}
    assert flags["--model"] == merged["uri"]
    assert flags["--load-format"] == "runai_streamer"
    assert {flags["--tokenizer"], flags["--hf-config-path"], flags["--generation-config"]} == {"/model"}
    assert fetch["args"][1:3] == [
        "--artifact",
        f"{merged['uri']},digest={merged['digest']},credentials=/var/run/ftm/artifacts/artifacts-s3",
    ]
    assert "--without-weights" in fetch["args"]
    assert fetch["resources"]["requests"]["ephemeral-storage"] == "1Gi"


def test_a_streaming_engine_has_the_stores_keys_and_no_other_has() -> None:
    scene = scene_of(loaded("Stream"))
    scene.reach("Deploying")
    variables = {each["name"]: each for each in containers(pod_of_deployment(scene))["vllm"]["env"]}
    reference = {"name": "artifacts-s3", "key": "AWS_SECRET_ACCESS_KEY", "optional": True}
    assert variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"] == {"secretKeyRef": reference}
    fetched = scene_of(loaded("Auto"))
    fetched.reach("Deploying")
    assert not [each for each in containers(pod_of_deployment(fetched))["vllm"]["env"] if "AWS" in each["name"]]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"serving": {"loading": "Stream", **LLAMA_CPP}},
            "spec.serving.loading Stream is vLLM's, and llama.cpp serves this model; set it to Fetch",
        ),
        (
            {"serving": {"loading": "Stream"}, "artifacts": {"uri": "pvc://models/built"}},
            (
                "spec.serving.loading Stream reads from S3, and the artifact store is pvc://models/built; set it to "
                "Fetch, or spec.artifacts.uri to s3://"
            ),
        ),
    ],
)
def test_a_stream_that_cannot_be_is_refused_by_name(spec: dict[str, Any], message: str) -> None:
    scene = scene_of(resource(**spec))
    scene.inspect()
    assert (scene.stalled().reason, scene.stalled().message) == ("LoadingNotPossible", message)


@pytest.mark.parametrize("loading", ["Image", "Stream"])
def test_a_preview_of_the_base_is_fetched_whatever_the_merged_model_is(loading: str) -> None:
    scene = scene_of(loaded(loading, **OCI, preview="Dynamic"))
    scene.inspect()
    pod = pod_of_deployment(scene)
    assert volumes(pod)["model"] == {"name": "model", "emptyDir": {}}
    assert containers(pod)["fetch"]["args"][1] == "--base"
    assert "--load-format" not in containers(pod)["vllm"]["args"]


def test_auto_is_fetch() -> None:
    pods = []
    for loading in ("Auto", "Fetch"):
        scene = scene_of(loaded(loading))
        scene.reach("Deploying")
        pods.append(pod_of_deployment(scene))
    assert pods[0] == pods[1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"serving": {"loading": "Image"}}, "loading Image mounts what was pushed to a registry; write artifacts.oci"),
        ({"serving": {"loading": "Image"}, "mode": "Dynamic", **OCI}, "mode Dynamic serves the base, which is no"),
        ({"serving": {"loading": "Stream"}, "mode": "Dynamic"}, "mode Dynamic serves the base, which is no artifact"),
    ],
)
def test_what_no_model_can_have_is_refused_by_the_api(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidManifest, match=message):
        parse(FineTunedModel, resource(**spec))
