"""Drift from what we set is told from defaults, and named."""

from typing import Any

import pytest

from ftm_operator.api.quantities import quantity
from ftm_operator.observe.drift import differences

CONTAINER = {"name": "vllm", "args": ["--port", "8000"], "resources": {"limits": {"memory": "1024Mi"}}}


@pytest.mark.parametrize(
    ("desired", "live"),
    [
        ({"spec": {"replicas": 1}}, {"spec": {"replicas": 1, "paused": False}, "status": {}}),
        ({"containers": [CONTAINER]}, {"containers": [CONTAINER | {"terminationMessagePath": "/dev/termination-log"}]}),
        ({"env": [{"name": "a"}, {"name": "b"}]}, {"env": [{"name": "b"}, {"name": "a"}]}),
        ({"resources": {"limits": {"memory": "1024Mi"}}}, {"resources": {"limits": {"memory": "1Gi"}}}),
        ({"resources": {"requests": {"cpu": "1000m"}}}, {"resources": {"requests": {"cpu": 1}}}),
        ({"emptyDir": {}}, {}),
        ({"env": [{"name": "A", "value": ""}]}, {"env": [{"name": "A"}]}),
        ({"tolerations": [{"key": "a", "value": ""}]}, {"tolerations": [{"key": "a"}]}),
        ({"env": [{"name": "a"}]}, {"env": [{"name": "a"}, {"name": "another manager's"}]}),
        (
            {"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]},
            {"volumeMounts": [{"name": "v", "mountPath": "/b"}, {"name": "v", "mountPath": "/a"}]},
        ),
        ({"ports": [{"port": 80, "name": "http"}]}, {"ports": [{"port": 80, "name": "http", "targetPort": "http"}]}),
    ],
    ids=[
        *("defaults", "defaults in a list", "order of named items", "binary units", "milli units", "empty is absent"),
        *("an empty value", "an empty value in an item", "a sidecar's item", "two mounts of a volume", "ports"),
    ],
)
def test_what_a_server_adds_or_rewrites_is_no_drift(desired: Any, live: Any) -> None:
    assert not list(differences(desired, live))


@pytest.mark.parametrize(
    ("desired", "live", "sentence"),
    [
        ({"spec": {"replicas": 1}}, {"spec": {"replicas": 3}}, "spec.replicas: 3, should be 1"),
        ({"spec": {"type": "ClusterIP"}}, {"spec": {}}, "spec.type: None, should be 'ClusterIP'"),
        (
            {"containers": [{"name": "vllm", "image": "a"}]},
            {"containers": [{"name": "vllm", "image": "b"}]},
            "containers[vllm].image: 'b', should be 'a'",
        ),
        ({"args": ["a", "b"]}, {"args": ["a", "c"]}, "args[1]: 'c', should be 'b'"),
        (
            {"resources": {"limits": {"memory": "1Gi"}}},
            {"resources": {"limits": {"memory": "1G"}}},
            "resources.limits.memory: '1G', should be '1Gi'",
        ),
    ],
)
def test_drift_is_named_by_its_field(desired: Any, live: Any, sentence: str) -> None:
    assert list(differences(desired, live)) == [sentence]


def test_an_item_too_many_is_drift_where_items_have_no_key() -> None:
    assert list(differences({"args": ["a"]}, {"args": ["a", "b"]})) == ["args: ['a', 'b'], should be ['a']"]


def test_every_field_that_differs_is_named() -> None:
    desired, live = {"spec": {"a": 1, "b": [{"name": "x", "c": 2}]}}, {"spec": {"a": 2, "b": []}}
    found = list(differences(desired, live))
    assert found == ["spec.a: 2, should be 1", "spec.b[x]: None, should be {'name': 'x', 'c': 2}"]


def test_no_value_of_an_environment_variable_is_shown() -> None:
    desired = {"containers": [{"name": "vllm", "env": [{"name": "A", "value": "secret"}]}]}
    live = {"containers": [{"name": "vllm", "env": [{"name": "A", "value": "other"}]}]}
    assert list(differences(desired, live)) == ["containers[vllm].env[A].value: is not as wanted"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", "0.5"), ("1Ki", "1024"), ("1.5Gi", "1610612736"), (4, "4"), ("2e3", "2000"), ("1M", "1e6")],
)
def test_quantities_are_numbers(text: str | int, value: str) -> None:
    assert quantity(text) == quantity(value)
