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
    found: dict[tuple[Any, ...], AcceleratorClass] = {}
    for node in nodes:
        if node.get("spec", {}).get("unschedulable"):
            continue
        for each in _classes_of_node(node):
            key = (each.product, each.memory_bytes, each.per_node, each.resource, each.shared_by)
            known = found.get(key)
            found[key] = replace(known, nodes=known.nodes + 1) if known else each
    return _named_apart(list(found.values()))


def _classes_of_node(node: Mapping[str, Any]) -> Iterable[AcceleratorClass]:
    labels = node.get("metadata", {}).get("labels") or {}
    allocatable = node.get("status", {}).get("allocatable") or {}
    for resource, written in sorted(allocatable.items()):
        count = int(written) if str(written).isdecimal() else 0
        if count and (resource.startswith("nvidia.com/") or resource == "amd.com/gpu"):
            found = _class_of_resource(resource, count, labels)
            if found:
                yield found


def _class_of_resource(resource: str, count: int, labels: Mapping[str, str]) -> AcceleratorClass | None:
    """Returns the class of a resource's GPUs; None where no label tells the memory."""
    if resource == "amd.com/gpu":
        product, vram = labels.get("amd.com/gpu.product-name"), labels.get("amd.com/gpu.vram", "")
        known = known_product(product, None) if product else None
        digits = re.fullmatch(r"([0-9]+)G[iB]*", vram)
        if not product or not (known or digits):
            return None
        memory = known.memory_mib * MIB if known else int(digits[1]) * GIB if digits else 0
        chosen = {"amd.com/gpu.product-name": product}
        return replace(accelerator_class(product, memory, count, 1, resource, product), node_labels=chosen)
    prefix = "nvidia.com/gpu" if resource in (GPU_RESOURCE, f"{GPU_RESOURCE}.shared") else resource
    memory_mib, product = labels.get(f"{prefix}.memory", ""), labels.get(f"{prefix}.product")
    if not memory_mib.isdecimal() or not product:
        return None
    replicas = labels.get(f"{prefix}.replicas", "1")
    shared_by = int(replicas) if replicas.isdecimal() and int(replicas) > 1 else 1
    plain = product.removesuffix("-SHARED")
    found = accelerator_class(product, int(memory_mib) * MIB, max(1, count // shared_by), 1, resource, plain)
    major, minor = labels.get("nvidia.com/gpu.compute.major", ""), labels.get("nvidia.com/gpu.compute.minor", "")
    capability = (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else found.capability
    return replace(
        found,
        product=product,
        capability=capability,
        shared_by=shared_by,
        node_labels={f"{prefix}.product": product},
    )


def classes_of_slices(slices: Iterable[Mapping[str, Any]]) -> list[AcceleratorClass]:
    """Reads ResourceSlice objects (resource.k8s.io/v1, or v1beta1's `basic`) of NVIDIA's DRA driver."""
    counts: dict[str, Counter[tuple[str, int, str, bool]]] = {}
    for each in slices:
        spec = each.get("spec", {})
        if spec.get("driver") != DRA_DRIVER:
            continue
        node = str(spec.get("nodeName") or spec.get("pool", {}).get("name"))
        for device in spec.get("devices", ()):
            if found := _device(device):
                counts.setdefault(node, Counter())[found] += 1
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
    found = accelerator_class(product, memory, per_node, nodes, DRA_PARTS if is_part else DRA_DRIVER, product)
    return replace(
        found,
        partition=is_part,
        by_claim=True,
        capability=version_of(version) if re.match(r"[0-9]+\.[0-9]+", version) else found.capability,
    )


def _named_apart(classes: list[AcceleratorClass]) -> list[AcceleratorClass]:
    """Tells classes that share a name apart by GPUs per node."""
    counts = Counter(each.name for each in classes)
    return [replace(each, name=f"{each.name} x{each.per_node}") if counts[each.name] > 1 else each for each in classes]
