"""A pod with a node's cache: what it mounts, what it may do there, and what makes it compile anew."""

from dataclasses import replace
from typing import Any

import pytest

from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.observe.remedies import with_remedy
from ftm_operator.planning.plan import Planned, plan
from ftm_operator.resources.serving.deployment import deployment
from ftm_operator.resources.serving.engine import ServedModel, built_weights
from ftm_operator.resources.serving.leader_worker_set import leader_worker_set
from tests.unit.operator.objects import SETTINGS, STORE, facts, resource
from tests.unit.operator.resources.test_resources import ARTIFACT

ON_NODES: dict[str, Any] = {"hostPath": "/var/cache/ftm", "size": "100Gi"}
ON_A_CLAIM: dict[str, Any] = {"claimName": "models", "size": "100Gi"}
GGUF = {"method": "GGUF", "gguf": {"type": "Q8_0"}}


def served(spec: dict[str, Any] | None = None, **serving: Any) -> ServedModel:
    asked = FineTunedModel.model_validate(resource(serving=serving, **(spec or {})))
    planned = plan("support-bot", asked.spec, facts())
    assert isinstance(planned, Planned)
    return ServedModel(asked, planned.plan, facts(), built_weights(ARTIFACT, STORE), STORE)


def pod(spec: dict[str, Any] | None = None, **serving: Any) -> dict[str, Any]:
    found: dict[str, Any] = deployment(served(spec, **serving), SETTINGS)["spec"]["template"]["spec"]
    return found


def container(of: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in [*of["containers"], *of["initContainers"]] if each["name"] == name]
    return found  # type: ignore[no-any-return]


def after(flag: str, of: dict[str, Any]) -> str:
    arguments: list[str] = of["args"]
    return arguments[arguments.index(flag) + 1]


def compiled(of: dict[str, Any]) -> str:
    (mount,) = [each for each in container(of, "vllm")["volumeMounts"] if each["mountPath"] == "/var/run/ftm-compiled"]
    return str(mount["subPath"])


def test_a_node_s_folder_has_one_for_each_namespace_and_is_given_to_the_pods_user_by_root() -> None:
    found = pod(cache=ON_NODES)
    assert {
        "name": "ftm-cache",
        "hostPath": {"path": "/var/cache/ftm/team-a", "type": "DirectoryOrCreate"},
    } in found["volumes"]
    names = [each["name"] for each in found["initContainers"]]
    assert names == ["ftm-cache-folder", "fetch", "ftm-cache-holder"]
    giver = container(found, "ftm-cache-folder")
    assert after("--give-to", giver) == "65532:65532"
    assert giver["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]},
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": False,
    }


def test_the_folder_is_given_to_the_user_that_the_spec_says() -> None:
    other = {"spec": {"securityContext": {"runAsUser": 1000, "fsGroup": 2000}}}
    assert after("--give-to", container(pod(cache=ON_NODES, podTemplate=other), "ftm-cache-folder")) == "1000:2000"


def test_a_claim_takes_no_root_and_changes_hands_once() -> None:
    found = pod(cache=ON_A_CLAIM)
    assert {"name": "ftm-cache", "persistentVolumeClaim": {"claimName": "models"}} in found["volumes"]
    assert [each["name"] for each in found["initContainers"]] == ["fetch", "ftm-cache-holder"]
    assert all("runAsUser" not in each["securityContext"] for each in found["initContainers"])
    assert found["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


def test_the_fetch_knows_the_cache_its_size_and_its_pod() -> None:
    fetch = container(pod(cache=ON_NODES), "fetch")
    words = ["--cache", "--cache-size", "--bytes", "--pod"]
    assert [after(word, fetch) for word in words] == [
        "/var/run/ftm-cache",
        str(100 * 2**30),
        str(2**30),
        "$(FTM_POD_UID)",
    ]
    assert fetch["resources"]["requests"]["ephemeral-storage"] == "1Gi"


def test_what_does_not_fit_the_cache_is_asked_of_the_pods_own_disk() -> None:
    fetch = container(pod(cache={**ON_NODES, "size": "1Mi"}), "fetch")
    assert fetch["resources"]["requests"]["ephemeral-storage"] == "2Gi"


def test_the_engine_reads_artifacts_and_writes_only_what_it_compiles() -> None:
    found = pod(cache=ON_NODES)
    mounts = [each for each in container(found, "vllm")["volumeMounts"] if each["name"] == "ftm-cache"]
    assert mounts == [
        {
            "name": "ftm-cache",
            "mountPath": "/var/run/ftm-cache/artifacts",
            "subPath": "artifacts",
            "readOnly": True,
        },
        {"name": "ftm-cache", "mountPath": "/var/run/ftm-compiled", "subPath": compiled(found)},
    ]
    environment = {each["name"]: each.get("value") for each in container(found, "vllm")["env"]}
    assert environment["VLLM_CACHE_ROOT"] == "/var/run/ftm-compiled/vllm"
    name = compiled(found).removeprefix("compiled/")
    assert after("--compiled", container(found, "fetch")) == name
    holder = container(found, "ftm-cache-holder")
    assert after("--compiled", holder) == name
    assert after("--hold", holder) == "s3://artifacts/built/merge-1,digest=sha256:m"
    assert holder["restartPolicy"] == "Always"


def test_a_variable_of_the_spec_wins() -> None:
    found = pod(cache=ON_NODES, env=[{"name": "VLLM_CACHE_ROOT", "value": "/mine"}])
    values = [each["value"] for each in container(found, "vllm")["env"] if each["name"] == "VLLM_CACHE_ROOT"]
    assert values == ["/mine"]


@pytest.mark.parametrize(
    "other",
    [
        {"image": "other/vllm:1"},
        {"maxModelLen": 256},
        {"extraArgs": ["--enforce-eager"]},
        {"tensorParallelSize": 3},
        {"env": [{"name": "VLLM_USE_V2", "value": "1"}]},
    ],
    ids=str,
)
def test_another_engine_compiles_into_a_folder_of_its_own(other: dict[str, Any]) -> None:
    assert compiled(pod(cache=ON_NODES, **other)) != compiled(pod(cache=ON_NODES))


def test_another_model_and_another_rollout_compile_into_a_folder_of_their_own() -> None:
    one = served(cache=ON_NODES)
    newer = replace(one, weights=built_weights(ARTIFACT.model_copy(update={"digest": "sha256:n"}), STORE))
    annotated = FineTunedModel.model_validate(resource(serving={"cache": ON_NODES}))
    annotated.metadata.annotations["ftm.dev/rollout"] = "2"
    found = [
        compiled(deployment(each, SETTINGS)["spec"]["template"]["spec"])
        for each in (one, newer, replace(one, model=annotated))
    ]
    assert len(set(found)) == 3


def test_more_memory_compiles_nothing_anew() -> None:
    more = {"requests": {"memory": "99Gi"}}
    assert compiled(pod(cache=ON_NODES, resources=more)) == compiled(pod(cache=ON_NODES))


def test_llama_cpp_maps_its_file_from_the_cache_and_compiles_nothing() -> None:
    found = pod({"quantization": GGUF}, cache=ON_NODES)
    mounts = [each for each in container(found, "llama-server")["volumeMounts"] if each["name"] == "ftm-cache"]
    assert [each["mountPath"] for each in mounts] == ["/var/run/ftm-cache/artifacts"]
    assert "--compiled" not in container(found, "fetch")["args"]


def test_each_node_of_a_group_has_the_cache() -> None:
    one = served(cache=ON_NODES)
    several = replace(one, plan=one.plan.model_copy(update={"nodes": 2, "gpus": 2, "pipeline_parallel_size": 2}))
    part = leader_worker_set(several, SETTINGS)["spec"]["leaderWorkerTemplate"]
    pods = [part[template]["spec"] for template in ("leaderTemplate", "workerTemplate")]
    assert len({compiled(each) for each in pods}) == 2
    assert all(container(each, "ftm-cache-holder") for each in pods)


def test_without_a_cache_the_pod_is_as_it_was() -> None:
    assert "cache" not in str(pod()).replace("VLLM_CACHE_ROOT", "").replace("prefix-caching", "")


@pytest.mark.parametrize("loading", ["Stream", "Image"])
def test_a_cache_is_refused_where_nothing_is_fetched(loading: str) -> None:
    with pytest.raises(InvalidManifest, match="a cache keeps what is fetched; set loading to Fetch, or remove cache"):
        parse(FineTunedModel, resource(serving={"cache": ON_NODES, "loading": loading}))


@pytest.mark.parametrize(
    "violation",
    [
        'violates PodSecurity "baseline:latest": hostPath volumes (volume "ftm-cache")',
        'violates PodSecurity "restricted:latest": restricted volume types (volume "ftm-cache" uses type "hostPath")',
    ],
)
def test_pod_security_that_forbids_a_nodes_folder_says_what_to_write_instead(violation: str) -> None:
    assert with_remedy(f"pods is forbidden: {violation}") == (
        f"pods is forbidden: {violation}; set spec.serving.cache.claimName instead of hostPath, or set the namespace's "
        "Pod Security level to privileged"
    )
