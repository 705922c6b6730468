"""Serving pods: the guard in front of vLLM in every mode, and in mode Dynamic the base with an agent for adapters."""

from typing import Any

import pytest

from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.plan import Planned, plan
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.serving.deployment import deployment
from ftm_operator.resources.serving.engine import ServedModel, ServedWeights, built_weights, stored_weights
from tests.unit.operator.objects import SETTINGS, STORE, facts, resource

GGUF = Artifact(key="gguf-1", uri="s3://artifacts/built/gguf-1", digest="sha256:g", total_bytes=2**20, files=1)


def template(weights: ServedWeights | None = None, mode: str = "Dynamic", **serving: Any) -> Manifest:
    asked = FineTunedModel.model_validate(resource(mode=mode, serving=serving))
    planned = plan("support-bot", asked.spec, facts())
    assert isinstance(planned, Planned), planned
    served = ServedModel(asked, planned.plan, facts(), weights or stored_weights(asked, facts().base), STORE)
    made: Manifest = deployment(served, SETTINGS)["spec"]["template"]
    return made


def container(pod: Manifest, name: str) -> Manifest:
    (found,) = (each for each in [*pod["initContainers"], *pod["containers"]] if each["name"] == name)
    made: Manifest = found
    return made


def environment(of: Manifest) -> dict[str, Any]:
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in of["env"]}


def mounts(of: Manifest) -> dict[str, bool]:
    return {mount["name"]: mount.get("readOnly", False) for mount in of["volumeMounts"]}


def test_the_base_is_fetched_from_its_source_by_its_digest_and_its_secret_is_mounted_there_alone() -> None:
    made = template()
    fetch = container(made["spec"], "fetch")
    assert fetch["args"][:5] == [
        *("fetch", "--base", "s3://models/base,digest=sha256:base,credentials=/var/run/ftm/base/models-s3"),
        *("--to", "/model"),
    ]
    assert made["metadata"]["annotations"]["ftm.dev/artifact-digest"] == "sha256:base"
    holders = [each["name"] for each in _all(made["spec"]) if "base-credentials" in mounts(each)]
    assert holders == ["fetch"]
    assert [each["name"] for each in _all(made["spec"]) if "artifacts-credentials" in mounts(each)] == ["adapters"]


def test_the_agent_is_a_native_sidecar_that_is_ready_when_the_engine_holds_what_is_wanted() -> None:
    agent = template(dynamic={"disk": "10Gi"})["spec"]["initContainers"][1]
    assert (agent["name"], agent["image"], agent["restartPolicy"]) == ("adapters", "jobs:1", "Always")
    assert agent["args"] == [
        *("adapters", "--wanted", "/etc/ftm/adapters/adapters.json", "--base-digest", "sha256:base"),
        *("--folder", "/var/run/ftm-adapters"),
        *("--disk-bytes", str(9 * 2**30), "--artifacts-credentials", "/var/run/ftm/artifacts/artifacts-s3"),
        *("--engine", "http://127.0.0.1:8000", "--guard", "/var/run/ftm-guard", "--port", "8001"),
    ]
    assert agent["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8001}
    assert mounts(agent) == {
        "tmp": False,
        "ftm-adapters": False,
        "ftm-wanted-adapters": True,
        "ftm-guard": True,
        "artifacts-credentials": True,
    }


def test_the_volumes_are_bounded_and_the_list_of_adapters_need_not_be_there_yet() -> None:
    volumes = {each["name"]: each for each in template()["spec"]["volumes"]}
    assert volumes["ftm-adapters"]["emptyDir"] == {"sizeLimit": "20Gi"}
    assert volumes["ftm-guard"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Mi"}
    assert volumes["ftm-wanted-adapters"]["configMap"] == {"name": "support-bot-adapters", "optional": True}


def test_the_engine_has_the_planned_room_and_may_load_at_run_time() -> None:
    engine = container(template(extraArgs=["--enforce-eager"])["spec"], "vllm")
    at = engine["args"].index("--enable-lora")
    assert engine["args"][at:] == [
        *("--enable-lora", "--max-lora-rank", "16", "--max-loras", "4", "--max-cpu-loras", "32"),
        "--enforce-eager",
    ]
    assert environment(engine)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert mounts(engine)["ftm-adapters"] is True


def test_the_engine_alone_is_given_the_key_since_the_guard_knows_the_agent() -> None:
    pod = template(apiKeySecretName="key")["spec"]
    keys = [environment(container(pod, name)).get("VLLM_API_KEY") for name in ("adapters", "vllm")]
    assert keys == [None, {"secretKeyRef": {"name": "key", "key": "VLLM_API_KEY"}}]


def test_the_agents_resources_are_the_specs_where_it_has_any() -> None:
    agent = container(template(dynamic={"resources": {"limits": {"memory": "2Gi"}}})["spec"], "adapters")
    assert agent["resources"] == {"requests": {"cpu": "50m"}, "limits": {"memory": "2Gi"}}


@pytest.mark.parametrize("mode", ["Merged", "Dynamic"])
def test_the_guard_is_in_front_of_vllm_in_every_mode(mode: str) -> None:
    pod = template(mode=mode)["spec"]
    engine, fetch = container(pod, "vllm"), container(pod, "fetch")
    assert engine["args"][:2] == ["--middleware", "ftm_guard.Guard"]
    assert environment(engine)["PYTHONPATH"] == "/var/run/ftm-guard"
    assert (mounts(engine)["ftm-guard"], mounts(fetch)["ftm-guard"]) == (True, False)
    assert fetch["args"][5:7] == ["--guard", "/var/run/ftm-guard"]


def test_a_python_path_of_the_spec_follows_the_guards() -> None:
    engine = container(template(env=[{"name": "PYTHONPATH", "value": "/opt/mine"}])["spec"], "vllm")
    assert engine["env"][:2] == [
        {"name": "FTM_PYTHONPATH", "value": "/opt/mine"},
        {"name": "PYTHONPATH", "value": "/var/run/ftm-guard:$(FTM_PYTHONPATH)"},
    ]


def test_pods_of_mode_merged_have_neither_agent_nor_room_for_adapters() -> None:
    pod = template(mode="Merged")["spec"]
    assert [each["name"] for each in _all(pod)] == ["fetch", "vllm"]
    assert "--enable-lora" not in container(pod, "vllm")["args"]
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in environment(container(pod, "vllm"))


def test_llama_cpp_has_no_guard_and_no_agent() -> None:
    pod = template(built_weights(GGUF, STORE), device="CPU")["spec"]
    assert [each["name"] for each in _all(pod)] == ["fetch", "llama-server"]
    assert "--guard" not in container(pod, "fetch")["args"]


def _all(pod: Manifest) -> list[Manifest]:
    return [*pod["initContainers"], *pod["containers"]]
