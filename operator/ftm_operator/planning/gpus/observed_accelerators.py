"""Finds a cluster's kinds of GPU in its Node and ResourceSlice objects, as an API server returns them. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ftm_jobs.contract.byte_counts import GIB, MIB
from ftm_operator.planning.gpus.accelerators import (
    DRA_DRIVER,
    DRA_PARTS,
    GPU_RESOURCE,
    AcceleratorClass,
    accelerator_class,
    known_product,
    quantity_bytes,
    version_of,
)


def classes_of_nodes(nodes: Iterable[Mapping[str, Any]]) -> list[AcceleratorClass]:
    """Reads Node objects: labels of GPU feature discovery or AMD's node labeller, and what kubelet can allocate.

    Nodes that are cordoned are left out. Alike ones are one class, in the order in which they are first seen.
    """
    classes: dict[tuple[Any, ...], AcceleratorClass] = {}
    for node in nodes:
        if node.get("spec", {}).get("unschedulable"):
            continue
        for node_class in _classes_of_node(node):
            key = (
                node_class.product,
                node_class.memory_bytes,
                node_class.per_node,
                node_class.resource,
                node_class.shared_by,
            )
            class_so_far = classes.get(key)
            classes[key] = replace(class_so_far, nodes=class_so_far.nodes + 1) if class_so_far else node_class
    return _named_apart(list(classes.values()))


def _classes_of_node(node: Mapping[str, Any]) -> Iterable[AcceleratorClass]:
    labels = node.get("metadata", {}).get("labels") or {}
    allocatable = node.get("status", {}).get("allocatable") or {}
    for resource, written in sorted(allocatable.items()):
        count = int(written) if str(written).isdecimal() else 0
        if count and (resource.startswith("nvidia.com/") or resource == "amd.com/gpu"):
            node_class = _class_of_resource(resource, count, labels)
            if node_class:
                yield node_class


def _class_of_resource(resource: str, count: int, labels: Mapping[str, str]) -> AcceleratorClass | None:
    """Returns the class of a resource's GPUs; None where no label tells the memory."""
    if resource == "amd.com/gpu":
        product, vram = labels.get("amd.com/gpu.product-name"), labels.get("amd.com/gpu.vram", "")
        common_gpu = known_product(product, None) if product else None
        digits = re.fullmatch(r"([0-9]+)G[iB]*", vram)
        if not product or not (common_gpu or digits):
            return None
        memory = common_gpu.memory_mib * MIB if common_gpu else int(digits[1]) * GIB if digits else 0
        chosen = {"amd.com/gpu.product-name": product}
        return replace(accelerator_class(product, memory, count, 1, resource, product), node_labels=chosen)
    prefix = "nvidia.com/gpu" if resource in (GPU_RESOURCE, f"{GPU_RESOURCE}.shared") else resource
    memory_mib, product = labels.get(f"{prefix}.memory", ""), labels.get(f"{prefix}.product")
    if not memory_mib.isdecimal() or not product:
        return None
    replicas = labels.get(f"{prefix}.replicas", "1")
    shared_by = int(replicas) if replicas.isdecimal() and int(replicas) > 1 else 1
    plain = product.removesuffix("-SHARED")
    accelerator = accelerator_class(product, int(memory_mib) * MIB, max(1, count // shared_by), 1, resource, plain)
    major, minor = labels.get("nvidia.com/gpu.compute.major", ""), labels.get("nvidia.com/gpu.compute.minor", "")
    capability = (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else accelerator.capability
    return replace(
        accelerator,
        product=product,
        capability=capability,
        shared_by=shared_by,
        node_labels={f"{prefix}.product": product},
    )


def classes_of_slices(slices: Iterable[Mapping[str, Any]]) -> list[AcceleratorClass]:
    """Reads ResourceSlice objects (resource.k8s.io/v1, or v1beta1's `basic`) of NVIDIA's DRA driver."""
    counts: dict[str, Counter[tuple[str, int, str, bool]]] = {}
    for resource_slice in slices:
        spec = resource_slice.get("spec", {})
        if spec.get("driver") != DRA_DRIVER:
            continue
        node = str(spec.get("nodeName") or spec.get("pool", {}).get("name"))
        for device in spec.get("devices", ()):
            if kind := _device(device):
                counts.setdefault(node, Counter())[kind] += 1
    nodes = Counter((kind, count) for devices in counts.values() for kind, count in devices.items())
    return _named_apart([_class_of_devices(kind, per_node, many) for (kind, per_node), many in nodes.items()])


def _device(device: Mapping[str, Any]) -> tuple[str, int, str, bool] | None:
    """Returns product, memory in bytes, compute capability, and whether it is a part of a GPU."""
    content = device.get("basic", device)
    attributes = {str(name).rpartition("/")[2]: value for name, value in (content.get("attributes") or {}).items()}
    capacity = {str(name).rpartition("/")[2]: value for name, value in (content.get("capacity") or {}).items()}
    memory, product = capacity.get("memory", {}).get("value"), attributes.get("productName", {}).get("string")
    if memory is None or not product:
        return None
    is_part = attributes.get("type", {}).get("string") == "mig"
    profile = attributes.get("profile", {}).get("string", "MIG")
    version = attributes.get("cudaComputeCapability", {}).get("version", "")
    return (f"{product} {profile}" if is_part else product, quantity_bytes(memory), version, is_part)


def _class_of_devices(kind: tuple[str, int, str, bool], per_node: int, nodes: int) -> AcceleratorClass:
    product, memory, version, is_part = kind
    accelerator = accelerator_class(product, memory, per_node, nodes, DRA_PARTS if is_part else DRA_DRIVER, product)
    return replace(
        accelerator,
        partition=is_part,
        by_claim=True,
        capability=version_of(version) if re.match(r"[0-9]+\.[0-9]+", version) else accelerator.capability,
    )


def _named_apart(classes: list[AcceleratorClass]) -> list[AcceleratorClass]:
    """Tells classes that share a name apart by GPUs per node."""
    counts = Counter(each.name for each in classes)
    return [replace(each, name=f"{each.name} x{each.per_node}") if counts[each.name] > 1 else each for each in classes]
