"""What a spec asks of the sizing: its own fields, and the flags in extraArgs that change how much memory is needed."""

from collections.abc import Sequence

from ftm_operator.api.v1alpha1 import FineTunedModelSpec
from ftm_operator.planning.gpus.accelerators import DRA_DRIVER, GPU_RESOURCE, AcceleratorClass
from ftm_operator.planning.memory.reserves import UTILIZATION
from ftm_operator.planning.sizing import CONCURRENCY, Request

FLAGS = ("--max-num-batched-tokens", "--max-num-seqs", "--kv-cache-dtype", "--pipeline-parallel-size")


def request_of(spec: FineTunedModelSpec) -> Request:
    serving = spec.serving
    flags = _flags(serving.extra_args)
    cache_dtype = flags.get("--kv-cache-dtype", "auto")
    return Request(
        context=serving.max_model_len,
        concurrency=serving.concurrency or CONCURRENCY,
        dtype=serving.dtype,
        tensor_parallel=serving.tensor_parallel_size,
        pipeline_parallel=_whole(flags.get("--pipeline-parallel-size")),
        utilization=serving.gpu_memory_utilization or UTILIZATION,
        cache_dtype="fp8" if cache_dtype.startswith("fp8") else "auto",
        batched_tokens=_whole(flags.get("--max-num-batched-tokens")),
        batched_sequences=_whole(flags.get("--max-num-seqs")),
        eager="--enforce-eager" in serving.extra_args,
    )


def offered(spec: FineTunedModelSpec, classes: Sequence[AcceleratorClass]) -> list[AcceleratorClass]:
    """The classes that the spec may be placed on: all that are allocated as it says, or those of the resource that it
    names."""
    asked = spec.serving.accelerator
    by_claim = asked.allocation == "DynamicResources"
    return [
        each
        for each in classes
        if each.by_claim == by_claim and (by_claim or asked.resource in (GPU_RESOURCE, each.resource))
    ]


def nothing_offered(spec: FineTunedModelSpec, classes: Sequence[AcceleratorClass]) -> str:
    """Why no class may be taken, and what may."""
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


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    """--flag=value and --flag value, with _ for - as vLLM takes it."""
    found = {}
    for position, argument in enumerate(arguments):
        flag, separator, value = argument.partition("=")
        name = flag.replace("_", "-")
        if name in FLAGS and (separator or position + 1 < len(arguments)):
            found[name] = value if separator else arguments[position + 1]
    return found


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and int(text) > 0 else None
