"""The GPUs that count: what nodes and drivers publish, and what is declared for pools without a node."""

from typing import Any

from ftm_operator.planning.gpus.accelerators import declared_classes
from ftm_operator.runtime.view.gpu_inventory import GpuInventory

DECLARED = declared_classes([{"name": "A10G", "product": "NVIDIA-A10G", "perNode": 4, "nodes": 8}])


def node(name: str = "one", gpus: int = 4, product: str = "NVIDIA-A10G", **spec: Any) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": "23028", "kubernetes.io/hostname": name}
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "resourceVersion": "1"},
        "spec": spec,
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus), "cpu": "8"}, "conditions": [{"type": "Ready"}]},
    }


def names(inventory: GpuInventory) -> list[tuple[str, int, int]]:
    return [(each.name, each.per_node, each.nodes) for each in inventory.classes]


def test_a_declared_kind_counts_until_a_node_of_it_is_there() -> None:
    inventory = GpuInventory(DECLARED)
    assert names(inventory) == [("A10G", 4, 8)]
    assert inventory.watch_event("ADDED", node())
    assert names(inventory) == [("NVIDIA-A10G", 4, 1)]
    assert inventory.watch_event("DELETED", node())
    assert names(inventory) == [("A10G", 4, 8)]


def test_a_declared_kind_with_other_nodes_counts_beside_the_observed_one() -> None:
    inventory = GpuInventory(DECLARED)
    inventory.watch_event("ADDED", node(gpus=1))
    assert names(inventory) == [("NVIDIA-A10G", 1, 1), ("A10G", 4, 8)]


def test_a_heartbeat_and_a_node_without_gpus_change_nothing() -> None:
    inventory = GpuInventory()
    assert inventory.watch_event("ADDED", node())
    beat = node()
    beat["status"]["conditions"] = [{"type": "Ready", "lastHeartbeatTime": "now"}]
    assert not inventory.watch_event("MODIFIED", beat)
    plain = {**node("plain"), "status": {"allocatable": {"cpu": "8"}}}
    assert not inventory.watch_event("ADDED", plain)
    assert not inventory.watch_event("DELETED", plain)
    assert names(inventory) == [("NVIDIA-A10G", 4, 1)]


def test_a_second_node_of_a_kind_and_a_cordoned_one_change_how_many_there_are() -> None:
    inventory = GpuInventory()
    inventory.watch_event("ADDED", node())
    assert inventory.watch_event("ADDED", node("two"))
    assert names(inventory) == [("NVIDIA-A10G", 4, 2)]
    assert inventory.watch_event("MODIFIED", node("two", unschedulable=True))
    assert names(inventory) == [("NVIDIA-A10G", 4, 1)]


def test_a_full_list_repairs_what_the_watch_missed() -> None:
    inventory = GpuInventory()
    inventory.watch_event("ADDED", node("gone"))
    assert inventory.listed("Node", [node("there", gpus=8)])
    assert names(inventory) == [("NVIDIA-A10G", 8, 1)]
    assert not inventory.listed("Node", [node("there", gpus=8)])
