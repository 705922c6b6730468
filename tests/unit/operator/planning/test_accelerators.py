"""Kinds of GPU: as declared, as nodes are labelled, and as ResourceSlices publish them."""

from typing import Any

import pytest

from ftm_jobs.contract.byte_counts import GIB, MIB
from ftm_operator.api.errors import InvalidManifest
from ftm_operator.planning.gpus.accelerators import KNOWN, UnknownMemory, declared_classes, known_product
from ftm_operator.planning.gpus.observed_accelerators import classes_of_nodes, classes_of_slices


def node(labels: dict[str, str], allocatable: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": labels}, "spec": spec, "status": {"allocatable": {"cpu": "8", **allocatable}}}


def a10g(count: str = "4", **spec: Any) -> dict[str, Any]:
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-A10G",
        "nvidia.com/gpu.memory": "23028",
        "nvidia.com/gpu.count": count,
        "nvidia.com/gpu.compute.major": "8",
        "nvidia.com/gpu.compute.minor": "6",
        "nvidia.com/gpu.replicas": "1",
    }
    return node(labels, {"nvidia.com/gpu": count}, **spec)


@pytest.mark.parametrize(
    ("name", "memory_mib", "label"),
    [
        ("A10G", 23028, "NVIDIA-A10G"),
        ("a10g", None, "NVIDIA-A10G"),
        ("g5-a10g-pool", 23028, None),
        ("A100-80", 81920, "NVIDIA-A100-SXM4-80GB"),
        ("a100-40gb", None, "NVIDIA-A100-SXM4-40GB"),
        ("A100-80GB", None, "NVIDIA-A100-SXM4-80GB"),
        ("NVIDIA-A100-80GB-PCIe", 81920, "NVIDIA-A100-SXM4-80GB"),
        ("nvidia a100", 40960, "NVIDIA-A100-SXM4-40GB"),
        ("H100", None, "NVIDIA-H100-80GB-HBM3"),
        ("NVIDIA-H100-NVL", 95830, "NVIDIA-H100-NVL"),
        ("Tesla-T4", 15360, "Tesla-T4"),
        ("T4", 16384, "Tesla-T4"),
        ("L40S", None, "NVIDIA-L40S"),
        ("MI300X", None, "AMD_Instinct_MI300X_OAM"),
        ("H100", 999_999, None),
        ("gold", None, None),
    ],
)
def test_common_gpus_are_known_by_what_people_call_them(name: str, memory_mib: int | None, label: str | None) -> None:
    found = known_product(name, memory_mib * MIB if memory_mib else None)
    assert (found.label if found else None) == label


def test_every_known_gpu_is_known_by_its_label() -> None:
    for product in KNOWN:
        assert known_product(product.label, product.memory_mib * MIB) == product
        assert product.usable_gib * GIB < product.memory_mib * MIB


def test_a_declared_class_has_what_is_known_of_its_gpu() -> None:
    (found,) = declared_classes(
        [{"name": "A10G", "memory": "23028Mi", "perNode": 4, "nodes": 2, "resource": "nvidia.com/gpu"}]
    )
    assert (found.memory_bytes, found.usable_bytes) == (23028 * MIB, int(22.06 * GIB))
    assert (found.per_node, found.nodes, found.resource, found.capability) == (4, 2, "nvidia.com/gpu", (8, 6))
    (sold,) = declared_classes({"classes": [{"name": "A10G", "memory": "24Gi"}]})
    assert sold.usable_bytes == found.usable_bytes


def test_a_class_that_is_not_known_is_taken_at_its_word() -> None:
    (found,) = declared_classes([{"name": "gold", "memory": "64Gi", "computeCapability": "9.0", "cost": 3}])
    assert found.usable_bytes == 64 * GIB - int(64 * GIB * 0.011)
    assert (found.capability, found.rank, found.product) == ((9, 0), 3, None)


def test_a_pool_that_is_scaled_to_zero_counts_as_one_node() -> None:
    (found,) = declared_classes([{"name": "A10G", "nodes": 0}])
    assert found.nodes == 1


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], "classes: [] is too few items; write at least 1"),
        ([{"memory": "24Gi"}], "classes[0].name: is required"),
        ([{"name": "x", "memory": "24 GB"}], 'classes[0].memory: "24 GB" is not a quantity'),
        ([{"name": "x", "memory": "24Gi", "pernode": 2}], "classes[0].pernode: unknown field; did you mean perNode?"),
        ([{"name": "x", "memory": "24Gi", "perNode": 0}], "classes[0].perNode: 0 is too small; write at least 1"),
    ],
)
def test_a_wrong_class_is_refused_naming_the_field(document: Any, sentence: str) -> None:
    with pytest.raises(InvalidManifest) as refused:
        declared_classes(document)
    assert str(refused.value).startswith(sentence)


def test_a_class_without_memory_must_be_known_and_names_must_differ() -> None:
    with pytest.raises(UnknownMemory, match='class "gold" has no memory and is none of Tesla-T4, '):
        declared_classes([{"name": "gold"}])
    with pytest.raises(UnknownMemory, match='two are called "A10G"'):
        declared_classes([{"name": "A10G"}, {"name": "A10G"}])


def test_nodes_that_are_alike_are_one_class() -> None:
    (found,) = classes_of_nodes([a10g(), a10g(), a10g(unschedulable=True)])
    assert (found.name, found.nodes, found.per_node) == ("NVIDIA-A10G", 2, 4)
    assert (found.usable_bytes, found.capability) == (int(22.06 * GIB), (8, 6))
    assert found.node_labels == {"nvidia.com/gpu.product": "NVIDIA-A10G"}


def test_nodes_with_other_numbers_of_the_same_gpu_are_told_apart() -> None:
    assert [each.name for each in classes_of_nodes([a10g("4"), a10g("8")])] == ["NVIDIA-A10G x4", "NVIDIA-A10G x8"]


def test_nodes_without_gpus_or_labels_offer_none() -> None:
    assert classes_of_nodes([node({}, {}), node({}, {"nvidia.com/gpu": "4"}), {"metadata": {}}]) == []


def test_parts_of_gpus_are_classes_of_their_own() -> None:
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB",
        "nvidia.com/gpu.memory": "40960",
        "nvidia.com/mig-3g.20gb.product": "NVIDIA-A100-SXM4-40GB-MIG-3g.20gb",
        "nvidia.com/mig-3g.20gb.memory": "19968",
    }
    (found,) = classes_of_nodes([node(labels, {"nvidia.com/mig-3g.20gb": "2", "nvidia.com/gpu": "0"})])
    assert found.partition
    assert (found.resource, found.per_node, found.memory_bytes) == ("nvidia.com/mig-3g.20gb", 2, 19968 * MIB)


def test_shared_gpus_are_counted_once_and_their_share_is_known() -> None:
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-A10G-SHARED",
        "nvidia.com/gpu.memory": "23028",
        "nvidia.com/gpu.replicas": "4",
    }
    (found,) = classes_of_nodes([node(labels, {"nvidia.com/gpu": "8"})])
    assert (found.per_node, found.shared_by, found.usable_bytes) == (2, 4, int(22.06 * GIB))
    assert found.node_labels == {"nvidia.com/gpu.product": "NVIDIA-A10G-SHARED"}


def test_amds_labels_are_read() -> None:
    labels = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"}
    (found,) = classes_of_nodes([node(labels, {"amd.com/gpu": "8"})])
    assert (found.resource, found.per_node, found.memory_bytes) == ("amd.com/gpu", 8, 196592 * MIB)


def device(name: str, kind: str = "gpu", memory: str = "81559Mi", **more: Any) -> dict[str, Any]:
    attributes = {
        "type": {"string": kind},
        "productName": {"string": "NVIDIA H100 80GB HBM3"},
        "cudaComputeCapability": {"version": "9.0.0"},
        **more,
    }
    return {"name": name, "attributes": attributes, "capacity": {"memory": {"value": memory}}}


def slice_of(node_name: str, *devices: dict[str, Any], driver: str = "gpu.nvidia.com") -> dict[str, Any]:
    return {"spec": {"driver": driver, "nodeName": node_name, "devices": list(devices)}}


def test_devices_of_resource_slices_are_counted_by_node() -> None:
    slices = [
        slice_of("a", device("gpu-0"), device("gpu-1")),
        slice_of("b", device("gpu-0"), device("gpu-1")),
        slice_of("b", device("nic"), driver="dra.net"),
    ]
    (found,) = classes_of_slices(slices)
    assert (found.name, found.per_node, found.nodes) == ("NVIDIA H100 80GB HBM3", 2, 2)
    assert (found.by_claim, found.resource, found.capability) == (True, "gpu.nvidia.com", (9, 0))
    assert found.usable_bytes == int(79.10 * GIB)


def test_parts_in_resource_slices_and_older_ones_are_read() -> None:
    part = device("mig-0", "mig", "40448Mi", profile={"string": "3g.40gb"})
    older = {"name": "gpu-0", "basic": {key: value for key, value in device("gpu-0").items() if key != "name"}}
    found = {each.name: each for each in classes_of_slices([slice_of("a", part, older)])}
    assert found["NVIDIA H100 80GB HBM3 3g.40gb"].partition
    assert found["NVIDIA H100 80GB HBM3 3g.40gb"].resource == "mig.nvidia.com"
    assert found["NVIDIA H100 80GB HBM3"].per_node == 1
