"""Drift from what we set is told from defaults, and named."""

from typing import Any

import pytest

from ftm_operator.api.quantities import quantity
from ftm_operator.observe.drift import drift

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
    ],
    ids=["defaults", "defaults in a list", "order of named items", "binary units", "milli units", "empty is absent"],
)
def test_what_a_server_adds_or_rewrites_is_no_drift(desired: Any, live: Any) -> None:
    assert drift(desired, live) is None


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
    assert drift(desired, live) == sentence


def test_an_item_too_many_is_drift() -> None:
    assert drift({"args": ["a"]}, {"args": ["a", "b"]}) == "args: ['a', 'b'], should be ['a']"
    assert drift({"env": [{"name": "a"}]}, {"env": [{"name": "a"}, {"name": "b"}]}) is not None


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", "0.5"), ("1Ki", "1024"), ("1.5Gi", "1610612736"), (4, "4"), ("2e3", "2000"), ("1M", "1e6")],
)
def test_quantities_are_numbers(text: str | int, value: str) -> None:
    assert quantity(text) == quantity(value)
