"""Pods with a node's cache before a real API server: where Pod Security lets them in, and what it says elsewhere."""

from collections.abc import Iterator
from typing import Any

import pytest

from ftm_operator.observe.remedies import with_remedy
from tests.cluster.kubectl import Kubectl, KubectlError
from tests.unit.operator.resources.test_node_cache import ON_NODES, pod

pytestmark = pytest.mark.cluster
INSTEAD = (
    "set spec.serving.cache.claimName instead of hostPath, or set the namespace's Pod Security level to privileged"
)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[Kubectl]:
    name = "node-cache-test"
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    kubectl.within(name).apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})
    yield kubectl.within(name)
    kubectl("delete", "namespace", name, "--wait=false")


def create(kubectl: Kubectl, level: str, cache: dict[str, Any]) -> dict[str, Any]:
    """Creates a pod in the namespace at this level of Pod Security; returns its spec."""
    kubectl("label", "namespace", kubectl.namespace, "--overwrite", f"pod-security.kubernetes.io/enforce={level}")
    kubectl.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": level}, "spec": pod(cache=cache)})
    found: dict[str, Any] = kubectl.get("pod", level)["spec"]
    return found


def test_a_node_s_folder_takes_a_privileged_namespace_and_the_refusal_says_what_to_do(namespace: Kubectl) -> None:
    for level in ("restricted", "baseline"):
        with pytest.raises(KubectlError) as refused:
            create(namespace, level, ON_NODES)
        assert with_remedy(str(refused.value)).endswith(f"; {INSTEAD}"), str(refused.value)
    kept = create(namespace, "privileged", ON_NODES)
    assert [each["name"] for each in kept["initContainers"]] == ["ftm-cache-folder", "fetch", "ftm-cache-holder"]
