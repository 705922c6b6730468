"""Resources of steps, of fetching and of engines: worked out but where the spec sets them, and never above a limit."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from ftm_operator.api.quantities import quantity
from tests.unit.operator.objects import resource
from tests.unit.operator.scene import Scene, scene_of

GIB = 2**30
AWQ = {"quantization": {"method": "AWQ"}}
COMPRESSOR = {"quantization": {"method": "AWQ", "awq": {"engine": "LLMCompressor"}}}


def reaching(phase: str, **spec: Any) -> Scene:
    scene = scene_of(resource(**spec))
    scene.reach(phase)
    return scene


def limited(memory: str) -> dict[str, Any]:
    return {"resources": {"limits": {"memory": memory}}}


def test_resources_of_all_steps_and_of_one_are_combined_resource_by_resource() -> None:
    jobs = {
        "resources": {"requests": {"cpu": 2, "memory": "3Gi"}, "limits": {"memory": "5Gi"}},
        "steps": {"merge": {"resources": {"limits": {"cpu": 8}}}, "verify": limited("64Gi")},
    }
    scene = reaching("Merging", jobs=jobs)
    assert scene.container("merge")["resources"] == {
        "requests": {"memory": "3Gi"},
        "limits": {"cpu": 8, "memory": "5Gi"},
    }
    scene.reach("Verifying")
    verify = scene.container("verify")["resources"]
    assert verify["limits"] == {"memory": "64Gi"}
    assert verify["requests"].keys() == {"cpu", "ephemeral-storage"}


def test_memory_that_the_spec_leaves_open_is_doubled_where_it_ran_out() -> None:
    scene = reaching("Merging", jobs={"resources": {"requests": {"cpu": 4}}, "steps": {"verify": limited("9Gi")}})
    scene.run_out_of_memory("merge")
    assert scene.container("merge")["resources"] == {
        "requests": {"cpu": 4, "memory": "4Gi"},
        "limits": {"memory": "8Gi"},
    }


@pytest.mark.parametrize(
    ("jobs", "field"),
    [
        ({"steps": {"merge": limited("3Gi")}}, "spec.jobs.steps.merge.resources.limits.memory"),
        (
            {"resources": limited("3Gi")["resources"], "steps": {"merge": {"resources": {"limits": {"cpu": 1}}}}},
            "spec.jobs.resources.limits.memory",
        ),
    ],
)
def test_memory_that_the_spec_sets_for_a_step_is_kept_and_its_field_is_named(jobs: dict[str, Any], field: str) -> None:
    scene = reaching("Merging", jobs=jobs)
    name = scene.running_job("merge")["metadata"]["name"]
    scene.run_out_of_memory("merge")
    assert scene.stalled().message == f"Job {name} ran out of memory at 3Gi; raise {field}"


def test_a_step_that_cannot_run_within_the_specs_memory_says_so_before_it_is_tried() -> None:
    scene = reaching("Merging", **COMPRESSOR, jobs={"steps": {"quantize": limited("200Mi")}})
    scene.merge()
    assert scene.stalled().message == (
        "the quantize step holds the model in memory, 259Mi, and spec.jobs.steps.quantize.resources.limits.memory is "
        "200Mi; raise it"
    )
    assert scene.jobs("quantize") == []
    scene.edit(jobs={"steps": {"quantize": limited("1Gi")}})
    assert scene.container("quantize")["resources"]["limits"]["memory"] == "1Gi"


def test_a_step_that_does_not_hold_the_model_is_tried_with_what_the_spec_lets_it_have() -> None:
    scene = reaching("Quantizing", **AWQ, jobs=limited("200Mi"))
    assert scene.container("quantize")["resources"]["limits"]["memory"] == "200Mi"


def tmp(scene: Scene, step: str) -> dict[str, Any]:
    volumes = scene.running_job(step)["spec"]["template"]["spec"]["volumes"]
    found: dict[str, Any] = next(volume for volume in volumes if volume["name"] == "tmp")
    return found


def test_scratch_is_a_volume_as_large_as_the_step_needs_and_takes_nothing_of_the_nodes_disk() -> None:
    scene = reaching("Merging", jobs={"scratch": {"storageClassName": "fast"}})
    assert tmp(scene, "merge") == {"name": "tmp", "emptyDir": {}}
    scene.reach("Verifying")
    claim = tmp(scene, "verify")["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert claim == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "1695Mi"}},
    }
    assert "ephemeral-storage" not in scene.container("verify")["resources"]["requests"]


def test_the_clusters_default_class_is_not_named() -> None:
    scene = reaching("Verifying", jobs={"scratch": {}})
    assert "storageClassName" not in tmp(scene, "verify")["ephemeral"]["volumeClaimTemplate"]["spec"]


def test_a_job_that_holds_a_scratch_volume_goes_once_its_result_is_kept() -> None:
    scene = reaching("Verifying", jobs={"scratch": {}})
    (verify,) = scene.jobs("verify")
    scene.verify()
    assert scene.jobs("verify") == []
    assert f"delete Job {verify['metadata']['name']}" in scene.applied
    assert len(scene.jobs("merge")) == 1, "it holds none"


def fetch_resources(**serving: Any) -> dict[str, Any]:
    (fetch,) = reaching("Deploying", serving=serving).get("Deployment")["spec"]["template"]["spec"]["initContainers"]
    found: dict[str, Any] = fetch["resources"]
    return found


def test_fetching_has_the_resources_that_the_spec_sets_and_the_operators_for_the_rest() -> None:
    assert fetch_resources() == {
        "requests": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "1283Mi"},
        "limits": {"memory": "1Gi"},
    }
    resources = {"requests": {"cpu": 2}, "limits": {"memory": "200Mi"}}
    assert fetch_resources(fetch={"resources": resources}) == {
        "requests": {"cpu": 2, "ephemeral-storage": "1283Mi"},
        "limits": {"memory": "200Mi"},
    }


@pytest.mark.parametrize("serving", [{}, {"engine": "LlamaCpp"}], ids=["vLLM", "llama.cpp"])
def test_an_engines_requests_are_never_above_the_specs_limits(serving: dict[str, Any]) -> None:
    resources = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    asked = {"quantization": {"method": "GGUF"}} if serving else {}
    engine = reaching("Deploying", serving={**serving, "resources": resources}, **asked).engine()["resources"]
    assert engine["requests"] == {"cpu": "500m", "memory": "64Mi"}
    assert engine["limits"].items() >= resources["limits"].items()


def random_resources(chosen: random.Random) -> dict[str, Any]:
    """Returns resources that the CRD takes: amounts from tiny to huge, each as a request, a limit, both or neither."""
    made: dict[str, Any] = {"requests": {}, "limits": {}}
    for name, amounts in {
        "cpu": ("1m", "500m", 2, "64"),
        "memory": ("1Mi", "3Gi", "9e10"),
        "ephemeral-storage": ("1Gi", "1Ti"),
    }.items():
        least, most = sorted(chosen.choices(amounts, k=2), key=quantity)
        made["requests"] |= {name: least} if chosen.random() < 0.4 else {}
        made["limits"] |= {name: most} if chosen.random() < 0.4 else {}
    return {"resources": made}


def containers(scene: Scene) -> Iterator[dict[str, Any]]:
    children = [*(job for step in ("inspect", "merge", "verify") for job in scene.jobs(step)), scene.get("Deployment")]
    for child in children:
        pod = child["spec"]["template"]["spec"]
        yield from (*pod["containers"], *pod.get("initContainers", ()))


@pytest.mark.parametrize("seed", range(12))
def test_no_container_has_a_request_above_its_limit(seed: int) -> None:
    chosen = random.Random(seed)
    jobs = random_resources(chosen) | {"steps": {"verify": random_resources(chosen)}}
    scene = reaching("Deploying", jobs=jobs, serving=random_resources(chosen) | {"fetch": random_resources(chosen)})
    for container in containers(scene):
        requests, limits = (container["resources"].get(kind, {}) for kind in ("requests", "limits"))
        above = [name for name in requests if name in limits and quantity(requests[name]) > quantity(limits[name])]
        assert above == [], container["name"]
