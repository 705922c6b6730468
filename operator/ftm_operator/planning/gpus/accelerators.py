"""Holds kinds of GPU that a model may be placed on, and what is known of common ones. Pure.

A label says how much memory a GPU has; CUDA offers less, and vLLM reckons with what CUDA offers. KNOWN holds both for
common GPUs, from GPU feature discovery's label nvidia.com/gpu.memory and from the totals in PyTorch's and vLLM's logs.
A GPU that is not in it is taken to offer UNKNOWN_SHARE less than its label.

Cost order: KNOWN is sorted by what an hour of one GPU costs in the large clouds, cheapest first. A class that is not in
it ranks as the cheapest known GPU with at least its memory, and `cost` overrides both. Equal ones keep their order.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING
from typing import Annotated, Any

from pydantic import Field

from ftm_jobs.contract.byte_counts import GIB, MIB
from ftm_operator.api.errors import parse
from ftm_operator.api.quantities import quantity
from ftm_operator.api.schema import Quantity, Resource

UNKNOWN_SHARE = 0.011
UNKNOWN_LEAST_BYTES = 448 * MIB
MARKETING_SHARE = 1.12
"""A declared memory up to so much above the label means that same GPU: an A10G is sold as 24 GB and has 23028 MiB."""
GPU_RESOURCE = "nvidia.com/gpu"
DRA_DRIVER = "gpu.nvidia.com"
"""The driver that publishes NVIDIA's GPUs in ResourceSlices, and the device class of whole ones."""
DRA_PARTS = "mig.nvidia.com"
"""The device class of parts of them."""
PRODUCT_LABEL = "nvidia.com/gpu.product"


@dataclass(frozen=True)
class Product:
    """A GPU as GPU feature discovery labels it."""

    label: str
    pattern: str
    """Matches what people call it, in lower-case letters and digits alone."""
    memory_mib: int
    """Memory as labelled."""
    usable_gib: float
    """Memory that CUDA offers."""
    capability: tuple[int, int]


KNOWN = (
    Product("Tesla-T4", "t4", 15360, 14.56, (7, 5)),
    Product("NVIDIA-L4", "l4", 23034, 22.03, (8, 9)),
    Product("Tesla-V100-SXM2-16GB", "v100", 16384, 15.77, (7, 0)),
    Product("NVIDIA-A10", "a10", 23028, 22.06, (8, 6)),
    Product("NVIDIA-A10G", "a10g", 23028, 22.06, (8, 6)),
    Product("NVIDIA-GeForce-RTX-3090", "rtx3090|3090", 24576, 23.56, (8, 6)),
    Product("NVIDIA-GeForce-RTX-4090", "rtx4090|4090", 24564, 23.53, (8, 9)),
    Product("NVIDIA-A30", "a30", 24576, 23.49, (8, 0)),
    Product("Tesla-V100-SXM2-32GB", "v100", 32768, 31.73, (7, 0)),
    Product("NVIDIA-GeForce-RTX-5090", "rtx5090|5090", 32607, 31.35, (12, 0)),
    Product("NVIDIA-A40", "a40", 46068, 44.34, (8, 6)),
    Product("NVIDIA-RTX-A6000", "rtxa6000|a6000", 49140, 47.40, (8, 6)),
    Product("NVIDIA-L40", "l40", 46068, 44.39, (8, 9)),
    Product("NVIDIA-L40S", "l40s", 46068, 44.39, (8, 9)),
    Product("NVIDIA-RTX-6000-Ada-Generation", "rtx6000ada(generation)?|6000ada", 49140, 47.41, (8, 9)),
    Product("NVIDIA-A100-SXM4-40GB", "a100", 40960, 39.38, (8, 0)),
    Product("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "rtxpro6000.*|pro6000", 97887, 94.97, (12, 0)),
    Product("NVIDIA-A100-SXM4-80GB", "a100", 81920, 79.14, (8, 0)),
    Product("NVIDIA-H100-80GB-HBM3", "h100", 81559, 79.10, (9, 0)),
    Product("NVIDIA-H100-NVL", "h100", 95830, 93.00, (9, 0)),
    Product("AMD_Instinct_MI300X_OAM", "mi300x", 196592, 191.69, (9, 4)),
    Product("NVIDIA-GH200-96GB-HBM3", "gh200", 97871, 94.50, (9, 0)),
    Product("NVIDIA-H200", "h200", 143771, 139.80, (9, 0)),
    Product("NVIDIA-B200", "b200", 183359, 178.35, (10, 0)),
    Product("NVIDIA-GB200", "gb200", 189471, 184.00, (10, 0)),
)
_SIZES = r"(80|40|32|16|96|24|48|141|192)(gb|g|gib)?"
_DECORATION = rf"^(nvidia|tesla|amd|instinct|geforce|amdinstinct)*|((sxm[0-9]?|pcie|nvl|hbm[0-9]e?|oam|{_SIZES})*)$"


@dataclass(frozen=True)
class AcceleratorClass:
    """GPUs that are alike, on nodes that have the same number of them."""

    name: str
    memory_bytes: int
    """Memory of one GPU, as labelled or declared."""
    usable_bytes: int
    """Memory of one GPU that the engine sees."""
    per_node: int
    nodes: int
    """Nodes that there are or may be."""
    resource: str
    """The extended resource that a pod asks for, or the device class where a DRA driver publishes the GPUs."""
    product: str | None = None
    """The label of KNOWN, or of the node."""
    capability: tuple[int, int] | None = None
    """Compute capability; None: unknown, and nothing is refused for it."""
    rank: float = 0
    """Its place in the cost order."""
    shared_by: int = 1
    """Pods that share a GPU (time slicing)."""
    partition: bool = False
    """A part of a GPU (MIG): it cannot work together with others."""
    by_claim: bool = False
    """Published in ResourceSlices, and asked for by a ResourceClaim."""
    node_labels: Mapping[str, str] | None = None
    """Labels that its nodes have."""

    def __hash__(self) -> int:
        return hash((self.name, self.memory_bytes, self.per_node, self.resource))


class DeclaredClass(Resource):
    """An item of CLASSES.yaml, or of the operator's settings for pools that scale to zero."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    """The name of the class; a common GPU's name (A10G, a100-80, NVIDIA-H100-80GB-HBM3) says all about it."""
    memory: Quantity | None = None
    """Memory of one GPU; may be left out for a common GPU."""
    per_node: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    """GPUs that each node has."""
    nodes: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 1
    """Nodes that there may be at once; 0, a pool that is scaled to zero now, counts as one."""
    resource: Annotated[str, Field(min_length=1, max_length=128)] = GPU_RESOURCE
    """The extended resource that a pod asks for."""
    product: str | None = None
    """The label nvidia.com/gpu.product of its nodes."""
    compute_capability: Annotated[str, Field(pattern=r"^[0-9]{1,2}\.[0-9]$")] | None = None
    """Compute capability, as in 8.6; absent: a common GPU's own, or unknown."""
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Its place among the classes: a lower one is preferred. Absent: that of the table of common GPUs."""
    shared_by: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    """Pods that share a GPU."""


class _Declared(Resource):
    classes: Annotated[tuple[DeclaredClass, ...], Field(min_length=1, max_length=256)]


class UnknownMemory(Exception):
    """A class whose memory is neither declared nor known."""


def declared_classes(document: Any) -> list[AcceleratorClass]:
    """Returns the classes of a parsed CLASSES.yaml: a list, or an object with the list in `classes`.

    Raises InvalidManifest naming each wrong field, or UnknownMemory.
    """
    listed = document if isinstance(document, dict) else {"classes": document}
    classes = [_declared_class(each) for each in parse(_Declared, listed).classes]
    if twice := [name for name, count in Counter(each.name for each in classes).items() if count > 1]:
        raise UnknownMemory(f'classes: two are called "{twice[0]}"; give each a name of its own')
    return classes


def _declared_class(written: DeclaredClass) -> AcceleratorClass:
    if written.memory is None:
        common_gpu = known_product(written.product or written.name, None)
        if common_gpu is None:
            names = ", ".join(product.label for product in KNOWN)
            raise UnknownMemory(f'class "{written.name}" has no memory and is none of {names}; write memory: 24Gi')
        memory = common_gpu.memory_mib * MIB
    else:
        memory = quantity_bytes(written.memory)
    accelerator = accelerator_class(
        written.name, memory, written.per_node, max(1, written.nodes), written.resource, written.product
    )
    capability = written.compute_capability
    return replace(
        accelerator,
        shared_by=written.shared_by,
        by_claim=written.resource in (DRA_DRIVER, DRA_PARTS),
        rank=accelerator.rank if written.cost is None else written.cost,
        capability=version_of(capability) if capability else accelerator.capability,
        node_labels={PRODUCT_LABEL: written.product} if written.product else None,
    )


def accelerator_class(
    name: str, memory_bytes: int, per_node: int, nodes: int, resource: str = GPU_RESOURCE, product: str | None = None
) -> AcceleratorClass:
    """Returns a class, with what KNOWN says of it."""
    partition = "mig-" in resource or "MIG" in (product or "")
    common_gpu = None if partition else known_product(product or name, memory_bytes)
    return AcceleratorClass(
        name=name,
        memory_bytes=memory_bytes,
        usable_bytes=_usable(memory_bytes, common_gpu),
        per_node=per_node,
        nodes=nodes,
        resource=resource,
        product=product or (common_gpu.label if common_gpu else None),
        capability=common_gpu.capability if common_gpu else None,
        rank=_rank(memory_bytes, common_gpu),
        partition=partition,
    )


def known_product(name: str, memory_bytes: int | None) -> Product | None:
    """Returns the common GPU of that name; of several (A100, V100) the one whose memory is meant."""
    exact = [product for product in KNOWN if product.label.lower() == name.lower()]
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    bare = re.sub(_DECORATION, "", plain)
    candidates = exact or [
        product for product in KNOWN if any(re.fullmatch(product.pattern, each) for each in (plain, bare))
    ]
    if memory_bytes is not None:
        return next((product for product in candidates if _is_memory_of(memory_bytes, product)), None)
    sized = [product for product in candidates if str(round(product.memory_mib / 1024)) in plain]
    return next(iter(sized or candidates), None)


def _is_memory_of(memory_bytes: int, product: Product) -> bool:
    label = product.memory_mib * MIB
    return label / MARKETING_SHARE <= memory_bytes <= label * MARKETING_SHARE


def _usable(memory_bytes: int, common_gpu: Product | None) -> int:
    """Returns the bytes that CUDA offers; never less for more memory."""
    unknown = max(0, memory_bytes - max(UNKNOWN_LEAST_BYTES, int(memory_bytes * UNKNOWN_SHARE)))
    if common_gpu is None:
        return unknown
    usable = int(common_gpu.usable_gib * GIB)
    return min(usable, unknown) if memory_bytes < common_gpu.memory_mib * MIB else usable


def _rank(memory_bytes: int, common_gpu: Product | None) -> float:
    if common_gpu:
        return KNOWN.index(common_gpu)
    larger = [rank for rank, product in enumerate(KNOWN) if product.memory_mib * MIB >= memory_bytes]
    return min(larger, default=len(KNOWN)) + 0.5


def quantity_bytes(written: int | str) -> int:
    """Returns a quantity of memory in bytes, rounded up."""
    return int(quantity(written).to_integral_value(ROUND_CEILING))


def version_of(text: str) -> tuple[int, int]:
    """Returns a compute capability, as in 8.6, as two numbers."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)
