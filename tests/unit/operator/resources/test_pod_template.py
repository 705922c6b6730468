"""podTemplate is merged over what the operator builds as Kubernetes merges strategically, and changes nothing else."""

from typing import Any

import pytest

from ftm_operator.api.errors import InvalidManifest
from ftm_operator.api.spec.pod_names import OWN_CONTAINERS
from ftm_operator.resources.strategic_merge import merged
from tests.unit.operator.objects import Manifest
from tests.unit.operator.resources.test_pod_fields import KINDS, model, serving_templates, templates

PROXY: Manifest = {
    "name": "proxy",
    "image": "proxy:1",
    "volumeMounts": [{"name": "model", "mountPath": "/m", "readOnly": True}],
}
TEMPLATE: Manifest = {
    "metadata": {"labels": {"mesh": "on"}, "annotations": {"mesh/ports": "8080"}},
    "spec": {"hostNetwork": True, "containers": [PROXY], "initContainers": [{"name": "warm-up", "image": "busybox"}]},
}


def pods(**spec: Any) -> list[Manifest]:
    return [template["spec"] for template in templates({"podTemplate": {"spec": spec}})]


def serving_pods(**spec: Any) -> list[Manifest]:
    return [template["spec"] for template in serving_templates({"podTemplate": {"spec": spec}})]


@pytest.mark.parametrize("position", range(len(KINDS)), ids=KINDS)
def test_every_pod_has_what_its_template_adds_and_all_that_it_had(position: int) -> None:
    template, plain = templates({"podTemplate": TEMPLATE})[position], templates({})[position]
    pod, before = template["spec"], plain["spec"]
    assert pod["hostNetwork"] is True
    assert pod["containers"] == [*before["containers"], PROXY]
    assert pod["initContainers"] == [*before.get("initContainers", []), {"name": "warm-up", "image": "busybox"}]
    assert template["metadata"]["labels"] == {"mesh": "on"} | plain["metadata"]["labels"]
    assert template["metadata"]["annotations"]["mesh/ports"] == "8080"
    rest = before.keys() - {"containers", "initContainers"}
    assert {field: pod[field] for field in rest} == {field: before[field] for field in rest}


def test_a_container_of_an_engine_that_a_pod_does_not_run_is_left_out_of_it() -> None:
    ours = [{"name": name, "env": [{"name": "A", "value": name}]} for name in ("vllm", "llama-server")]
    for pod in serving_pods(containers=ours):
        (container,) = pod["containers"]
        assert {"name": "A", "value": container["name"]} in container["env"]


def test_the_containers_that_are_ours_are_named() -> None:
    for template in templates({}):
        pod = template["spec"]
        assert {container["name"] for container in [*pod["containers"], *pod.get("initContainers", [])]} <= {
            *OWN_CONTAINERS
        }


def test_a_security_context_may_be_replaced_as_where_a_platform_chooses_the_user() -> None:
    for pod in pods(securityContext={"$patch": "replace", "runAsNonRoot": True}):
        assert pod["securityContext"] == {"runAsNonRoot": True}


def test_a_volume_that_is_given_another_source_has_that_one_alone() -> None:
    claim = {"name": "tmp", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}}
    for pod in pods(volumes=[claim]):
        assert [volume for volume in pod["volumes"] if volume["name"] == "tmp"] == [claim]


def test_another_template_makes_other_pods() -> None:
    def made_from(**fields: Any) -> str:
        found: str = templates(fields)[2]["metadata"]["annotations"]["ftm.dev/pod-template"]
        return found

    assert len({made_from(), made_from(podTemplate=TEMPLATE), made_from(podTemplate={"spec": TEMPLATE["spec"]})}) == 3


def test_a_directive_where_the_operator_keeps_something_is_refused() -> None:
    with pytest.raises(InvalidManifest, match=r"\$patch stands in maps of Kubernetes' own alone"):
        model({"podTemplate": {"spec": {"containers": [{"name": "vllm", "$patch": "replace"}]}}})


@pytest.mark.parametrize(
    ("field", "built", "patch", "result"),
    [
        ("", {"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}, {"a": 1, "b": {"c": 2, "d": 3}}),
        ("", {"a": {"b": 1}}, {"a": {"$patch": "delete"}}, {}),
        ("", {"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}, {"a": {"c": 2}}),
        ("", {"a": 1}, {"a": {"$patch": "replace", "b": {"$patch": "delete"}}}, {"a": {}}),
        ("args", ["a", "b"], ["c"], ["c"]),
        ("tolerations", [{"key": "a"}], [{"key": "b"}], [{"key": "b"}]),
        ("env", [{"name": "A", "value": "1"}], [{"name": "A", "valueFrom": {}}], [{"name": "A", "valueFrom": {}}]),
        (
            "volumeMounts",
            [{"mountPath": "/a", "name": "a"}],
            [{"mountPath": "/b", "name": "a"}, {"mountPath": "/a", "readOnly": True}],
            [{"mountPath": "/a", "name": "a", "readOnly": True}, {"mountPath": "/b", "name": "a"}],
        ),
        ("ports", [{"containerPort": 1}], [{"containerPort": 1, "name": "a"}], [{"containerPort": 1, "name": "a"}]),
        ("containers", [{"name": "a"}], "odd", "odd"),
        ("hostAliases", [{"ip": "1"}], [{"hostnames": []}], [{"hostnames": []}]),
        ("imagePullSecrets", [{"name": "a"}], [{"name": "b"}], [{"name": "a"}, {"name": "b"}]),
    ],
)
def test_fields_are_merged_as_kubernetes_does(field: str, built: Any, patch: Any, result: Any) -> None:
    assert merged(built, patch, field) == result
