"""Children say what they should, above all what keeps people safe and what keeps requests alive."""

from typing import Any

import pytest

from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.planning.input_hashes import inspection_input_hash, merged_key
from ftm_operator.planning.plan import Planned, plan
from ftm_operator.resources.serving.deployment import deployment
from ftm_operator.resources.serving.engine import ServedModel, built_weights
from ftm_operator.resources.serving.service import service
from ftm_operator.resources.serving.serving_labels import service_selector
from tests.unit.operator.jobs import inspect_job, merge_job
from tests.unit.operator.objects import SETTINGS, STORE, base_facts, facts, resource

ARTIFACT = Artifact(key="merge-1", uri="s3://artifacts/built/merge-1", digest="sha256:m", total_bytes=2**30, files=7)


def model(**spec: Any) -> FineTunedModel:
    return FineTunedModel.model_validate(resource(**spec))


def served(**serving: Any) -> dict[str, Any]:
    asked = model(serving=serving)
    planned = plan("support-bot", asked.spec, facts())
    assert isinstance(planned, Planned)
    return deployment(ServedModel(asked, planned.plan, facts(), built_weights(ARTIFACT, STORE), STORE), SETTINGS)


def engine(**serving: Any) -> dict[str, Any]:
    (container,) = served(**serving)["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def pods(**spec: Any) -> list[dict[str, Any]]:
    asked = model(**spec)
    jobs = inspect_job(asked), merge_job(asked, facts())
    return [child["spec"]["template"]["spec"] for child in (*jobs, served())]


@pytest.mark.parametrize("pod", pods(), ids=["inspect", "merge", "serve"])
def test_every_pod_passes_pod_security_restricted(pod: dict[str, Any]) -> None:
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] != 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(volume.keys() & {"emptyDir", "secret"} for volume in pod["volumes"])
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("pod", pods(), ids=["inspect", "merge", "serve"])
def test_no_pod_gets_a_token_or_the_namespaces_service_addresses(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


def test_the_engine_never_sees_the_stores_credentials() -> None:
    template = served()["spec"]["template"]["spec"]
    (fetch,) = template["initContainers"]
    assert "artifacts-credentials" in {mount["name"] for mount in fetch["volumeMounts"]}
    assert "artifacts-credentials" not in {mount["name"] for mount in template["containers"][0]["volumeMounts"]}


def test_fetch_is_held_to_the_digest_in_status() -> None:
    (fetch,) = served()["spec"]["template"]["spec"]["initContainers"]
    assert (
        "s3://artifacts/built/merge-1,digest=sha256:m,credentials=/var/run/ftm/artifacts/artifacts-s3" in fetch["args"]
    )


def test_the_plan_becomes_the_engines_arguments_and_gpus() -> None:
    container = engine(tensorParallelSize=3, maxModelLen=512, gpuMemoryUtilization=0.8, extraArgs=["--enforce-eager"])
    assert container["args"] == [
        *("--middleware", "ftm_guard.Guard"),
        *("--model", "/model", "--served-model-name", "support-bot", "--port", "8000", "--dtype", "bfloat16"),
        *("--max-model-len", "512", "--tensor-parallel-size", "3", "--shutdown-timeout", "45"),
        *("--gpu-memory-utilization", "0.8", "--enforce-eager"),
    ]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "3"}


def test_host_memory_follows_the_weights_unless_the_spec_says_otherwise() -> None:
    program, shared = 2048, 1024
    weights = -(-base_facts().weight_bytes // 2**20)
    assert engine()["resources"]["requests"]["memory"] == f"{weights + program + shared}Mi"
    assert engine(resources={"requests": {"memory": "9Gi"}})["resources"]["requests"]["memory"] == "9Gi"


def test_a_stopping_pod_drains_before_it_is_killed() -> None:
    pod = served()["spec"]["template"]["spec"]
    *program, _, least, most = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert program == ["python3", "-m", "ftm_guard"]
    arguments = pod["containers"][0]["args"]
    finish = int(arguments[arguments.index("--shutdown-timeout") + 1])
    assert 0 < int(least) < int(most)
    assert finish > 0
    assert pod["terminationGracePeriodSeconds"] > max(int(most), int(least) + finish)


def test_a_rollout_starts_the_new_before_it_stops_the_old() -> None:
    assert served()["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_an_api_key_comes_from_its_secret_and_users_variables_win() -> None:
    found = {
        variable["name"]: variable
        for variable in engine(apiKeySecretName="keys", env=[{"name": "HF_HUB_OFFLINE", "value": "0"}])["env"]
    }
    assert found["VLLM_API_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "keys", "key": "VLLM_API_KEY"}}
    assert found["HF_HUB_OFFLINE"]["value"] == "0"


def test_the_service_selects_exactly_the_serving_pods() -> None:
    selector = service(model(), Plan(engine="vLLM"), service_selector(model(), "vllm", ()))["spec"]["selector"]
    labels = served()["spec"]["template"]["metadata"]["labels"].items()
    assert selector.items() <= labels
    assert served()["spec"]["selector"]["matchLabels"].items() <= labels
    job = inspect_job(model())
    assert not selector.items() <= job["spec"]["template"]["metadata"]["labels"].items()


def test_a_job_gives_up_at_once_on_wrong_input_and_ignores_evictions() -> None:
    rules = inspect_job(model())["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["action"] == "FailJob"
    assert rules[0]["onExitCodes"] == {"containerName": "inspect", "operator": "In", "values": [2]}
    assert rules[1] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    assert rules[2]["onExitCodes"]["values"] == [137]


def test_every_name_fits_a_label_for_the_longest_resource_name() -> None:
    longest = FineTunedModel.model_validate(resource("a" * 40))
    assert len(inspect_job(longest, 999)["metadata"]["name"]) <= 63


def test_what_a_qlora_adapter_is_added_to_is_part_of_the_merge_and_of_its_key() -> None:
    def merge(**spec: Any) -> tuple[str, list[str]]:
        asked = model(**spec)
        job = merge_job(asked, facts())
        return merged_key(asked.spec, facts()), job["spec"]["template"]["spec"]["containers"][0]["args"]

    plain, arguments = merge()
    assert "--quantized-base" not in arguments
    assert merge(quantizedBase="FullPrecision") == (plain, arguments)
    round_trip, arguments = merge(quantizedBase="NF4RoundTrip")
    assert round_trip != plain
    assert arguments[arguments.index("--quantized-base") + 1] == "NF4RoundTrip"


def test_a_base_that_is_served_as_it_is_stored_is_inspected_as_such_and_anew_where_fewer_bits_are_taken() -> None:
    def inspected(**spec: Any) -> tuple[str, list[str]]:
        asked = model(**spec)
        (inspect,) = inspect_job(asked)["spec"]["template"]["spec"]["containers"]
        return inspection_input_hash(asked.spec, None), inspect["args"]

    merged, arguments = inspected()
    assert "--unmerged" not in arguments
    unmerged, arguments = inspected(mode="Dynamic")
    assert arguments[-5:-2] == ["--unmerged", "--quantized-base", "FullPrecision"]
    quantized, arguments = inspected(mode="Dynamic", quantizedBase="AsStored")
    assert arguments[-5:-2] == ["--unmerged", "--quantized-base", "AsStored"]
    assert merged == unmerged != quantized
