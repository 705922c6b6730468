"""Selects the kinds of GPU that a spec may be placed on."""

from collections.abc import Sequence

from ftm_operator.api.v1alpha1 import FineTunedModelSpec
from ftm_operator.planning.gpus.accelerators import DRA_DRIVER, GPU_RESOURCE, AcceleratorClass


def offered(spec: FineTunedModelSpec, classes: Sequence[AcceleratorClass]) -> list[AcceleratorClass]:
    """Returns the classes that are allocated as the spec says, and have the resource that it names if it names one."""
    asked = spec.serving.accelerator
    by_claim = asked.allocation == "DynamicResources"
    return [
        each
        for each in classes
        if each.by_claim == by_claim and (by_claim or asked.resource in (GPU_RESOURCE, each.resource))
    ]


def nothing_offered(spec: FineTunedModelSpec, classes: Sequence[AcceleratorClass]) -> str:
    """Says why no class may be taken, and what to write so that one may."""
    asked = spec.serving.accelerator
    if asked.allocation == "DynamicResources":
        return (
            f"no GPU is published in ResourceSlices of {DRA_DRIVER}; install its driver, or set "
            "spec.serving.accelerator.allocation to DevicePlugin"
        )
    plugged = sorted({each.resource for each in classes if not each.by_claim})
    if not plugged:
        return "all GPUs are published in ResourceSlices; set spec.serving.accelerator.allocation to DynamicResources"
    return (
        f"no kind of GPU is asked for as {asked.resource}; "
        f"set spec.serving.accelerator.resource to {' or '.join(plugged)}"
    )
