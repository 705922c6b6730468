"""Fields of pods that serving and Jobs share: both get them, and neither loses what the operator sets."""

import re
from dataclasses import replace
from typing import Any

import pytest

from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.errors import parse
from ftm_operator.api.spec.pod_names import OWN_PATHS, OWN_VOLUMES
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.serving.deployment import deployment
from ftm_operator.resources.serving.engine import ServedModel, built_weights
from ftm_operator.resources.serving.leader_worker_set import leader_worker_set
from tests.unit.operator.jobs import inspect_job, merge_job
from tests.unit.operator.objects import SETTINGS, STORE, Manifest, facts, resource

ARTIFACT = Artifact(key="merge-1", uri="pvc://built/merge-1", digest="sha256:m", total_bytes=2**30, files=7)
SPREAD = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
AFFINITY = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}}
FIELDS: Manifest = {
    "serviceAccountName": "models",
    "podLabels": {"azure.workload.identity/use": "true"},
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "nodeSelector": {"pool": "gpus"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": AFFINITY,
    "topologySpreadConstraints": [SPREAD],
    "priorityClassName": "production",
    "runtimeClassName": "nvidia",
    "schedulerName": "volcano",
    "imagePullSecrets": [{"name": "mirror"}],
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}, {"name": "HOME", "value": "/scratch"}],
    "envFrom": [{"prefix": "A_", "configMapRef": {"name": "all", "optional": True}}],
    "volumes": [{"name": "ca", "configMap": {"name": "ca-bundle"}}],
    "volumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/certs", "readOnly": True}],
}
NOT_OF_PODS = {"podLabels", "podAnnotations", "env", "envFrom", "volumes", "volumeMounts"}
AS_WRITTEN = FIELDS.keys() - NOT_OF_PODS


def model(serving: Manifest, jobs: Manifest | None = None) -> FineTunedModel:
    of_jobs = serving if jobs is None else jobs
    return parse(FineTunedModel, resource(serving=serving, jobs=of_jobs, artifacts={"uri": "pvc://built/ftm"}))


def serving_templates(fields: Manifest) -> list[Manifest]:
    """Returns the templates of pods of vLLM on one node, of llama.cpp, and of a group's leader and workers."""
    plans = Plan(engine="vLLM", accelerator="nvidia.com/gpu", gpus=1), Plan(engine="LlamaCpp")
    spread = Plan(engine="vLLM", accelerator="nvidia.com/gpu", gpus=2, nodes=2, tensor_parallel_size=1)
    single, processors = (deployment(served(fields, plan), SETTINGS)["spec"]["template"] for plan in plans)
    group = leader_worker_set(served(fields, spread), SETTINGS)["spec"]["leaderWorkerTemplate"]
    return [single, processors, group["leaderTemplate"], group["workerTemplate"]]


def served(fields: Manifest, plan: Plan) -> ServedModel:
    return ServedModel(model(fields, {}), plan, facts(), built_weights(ARTIFACT, STORE), STORE)


def templates(fields: Manifest) -> list[Manifest]:
    asked = model(fields)
    return [
        *(job["spec"]["template"] for job in (inspect_job(asked), merge_job(asked, facts()))),
        *serving_templates(fields),
    ]


KINDS = ["inspect", "merge", "vllm", "llama-server", "leader", "worker"]


@pytest.mark.parametrize("position", range(len(KINDS)), ids=KINDS)
def test_every_pod_has_all_that_the_spec_gives_it(position: int) -> None:
    template, plain = templates(FIELDS)[position], templates({})[position]
    pod, metadata = template["spec"], template["metadata"]
    assert {name: pod[name] for name in AS_WRITTEN} == {name: FIELDS[name] for name in AS_WRITTEN}
    assert metadata["labels"] == FIELDS["podLabels"] | plain["metadata"]["labels"]
    assert metadata["annotations"].items() >= FIELDS["podAnnotations"].items()
    assert pod["volumes"] == [*plain["spec"]["volumes"], *FIELDS["volumes"]]
    (container,), (before,) = pod["containers"], plain["spec"]["containers"]
    assert container["envFrom"] == FIELDS["envFrom"]
    assert container["volumeMounts"] == [*before["volumeMounts"], *FIELDS["volumeMounts"]]
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names)), "the API server refuses a variable that is there twice"
    assert [variable for variable in container["env"] if variable in FIELDS["env"]] == FIELDS["env"]
    assert pod["automountServiceAccountToken"] is False


def test_no_field_that_is_not_set_is_in_a_pod() -> None:
    for template in templates({}):
        assert not AS_WRITTEN & template["spec"].keys()
        assert all("envFrom" not in container for container in template["spec"]["containers"])
        assert template["metadata"].get("annotations", {}).keys() <= {"ftm.dev/artifact-digest", "ftm.dev/pod-template"}


def test_users_pull_secrets_come_after_the_installations_and_none_twice() -> None:
    settings = replace(SETTINGS, image_pull_secrets=("ours", "mirror"))
    plan = Plan(engine="vLLM", accelerator="nvidia.com/gpu", gpus=1)
    fields = {"imagePullSecrets": [{"name": "mirror"}, {"name": "theirs"}]}
    pod = deployment(served(fields, plan), settings)["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "ours"}, {"name": "mirror"}, {"name": "theirs"}]


def test_the_names_and_paths_that_are_refused_are_all_that_the_operator_uses() -> None:
    for template in templates({}):
        pod = template["spec"]
        for volume in pod["volumes"]:
            assert re.fullmatch(OWN_VOLUMES, volume["name"])
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            for mount in container["volumeMounts"]:
                assert re.fullmatch(OWN_PATHS, mount["mountPath"])


def made_from(fields: Manifest) -> Any:
    return serving_templates(fields)[0]["metadata"]["annotations"]["ftm.dev/pod-template"]


@pytest.mark.parametrize("field", [{"podLabels": {"a": "b"}}, {"podAnnotations": {"a": "b"}}, {"schedulerName": "x"}])
def test_pods_of_other_fields_are_told_from_those_that_were_there(field: dict[str, Any]) -> None:
    assert made_from(field) != made_from({})


def test_a_job_with_other_labels_may_succeed_where_the_one_before_failed() -> None:
    def spec_hash(fields: Manifest) -> str:
        found: str = inspect_job(model(fields))["metadata"]["annotations"]["ftm.dev/job-spec"]
        return found

    assert spec_hash({"podLabels": {"team": "support"}}) != spec_hash({})
