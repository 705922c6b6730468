"""Who owns a child's number of replicas, as an API server tells it in managed fields."""

from typing import Any

from ftm_operator.observe.replica_owners import KEEPER, is_only_ours, owns_replicas, scaling_manager
from ftm_operator.resources.metadata import MANAGER
from ftm_operator.runtime.view.object_cache import ObjectCache

REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}, "f:template": {}}}
OURS = {"manager": MANAGER, "operation": "Apply", "fieldsV1": REPLICAS}
STATUS = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "fieldsV1": {}}
HPA = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale", "fieldsV1": REPLICAS}
EDITOR = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": REPLICAS}
WITHOUT = {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}}


def child(*managed: Any) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"managedFields": list(managed)}, "spec": {"replicas": 1}}


def test_whoever_uses_the_scale_subresource_scales() -> None:
    assert scaling_manager(child(WITHOUT, STATUS, HPA)) == "kube-controller-manager"
    assert scaling_manager(child(OURS, STATUS)) is None
    assert scaling_manager(child(WITHOUT, EDITOR)) is None


def test_only_what_nobody_else_owns_would_be_reset() -> None:
    assert is_only_ours(child(OURS, STATUS))
    assert not is_only_ours(child(OURS, {**OURS, "manager": KEEPER}))
    assert not is_only_ours(child(WITHOUT, HPA))
    assert not is_only_ours(child(WITHOUT, STATUS)), "nobody owns a default"


def test_the_cache_keeps_who_owns_the_number_and_nothing_else() -> None:
    cache = ObjectCache()
    stored = child(OURS, STATUS, HPA)
    stored["metadata"] |= {"namespace": "team-a", "name": "support-bot", "resourceVersion": "1"}
    cache.put("Deployment", stored)
    found = cache.get("Deployment", ("team-a", "support-bot"))
    assert found
    managed = found["metadata"]["managedFields"]
    assert [(each["manager"], each["fieldsV1"]) for each in managed] == [
        (MANAGER, {"f:spec": {"f:replicas": {}}}),
        ("kube-controller-manager", {"f:spec": {"f:replicas": {}}}),
    ]
    assert owns_replicas(managed) == managed


def test_odd_managed_fields_are_nobodys() -> None:
    assert owns_replicas(None) == owns_replicas([{"manager": "x"}]) == owns_replicas([{"fieldsV1": None}]) == []
