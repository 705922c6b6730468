"""Says what would make a model fit that does not: each remedy is a sentence with what to write.

Every remedy is tried by the same rule as the plan itself, so none is a guess.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ftm_jobs.contract.byte_counts import MIB
from ftm_operator.planning.gpus.accelerators import KNOWN, AcceleratorClass, accelerator_class
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.quantization import AWQ
from ftm_operator.planning.sizing.choice import size
from ftm_operator.planning.sizing.outcome import NoFit, Sizing
from ftm_operator.planning.sizing.request import Request

NODE_OF = 8
"""GPUs of a node that is suggested."""
SHORTEST_CONTEXT = 256
"""A context that is not worth suggesting."""


def remedies(model: Architecture, request: Request, classes: Sequence[AcceleratorClass], no_fit: NoFit) -> list[str]:
    """Returns the remedies; none for a request that no GPU could answer, such as a context beyond the model's limit."""
    if not no_fit.rejected:
        return []
    return [
        *_less(model, request, classes, no_fit),
        *_fewer_bits(model, request, classes),
        *_other_gpus(model, request, classes),
        *_more_nodes(model, request, classes),
    ]


def _less(model: Architecture, request: Request, classes: Sequence[AcceleratorClass], no_fit: NoFit) -> Iterator[str]:
    closest = no_fit.closest
    if closest and closest.context >= SHORTEST_CONTEXT:
        yield (
            f"a context of {closest.context} tokens fits on {closest.layout.gpus} x {closest.accelerator.name}: "
            f"set spec.serving.maxModelLen to at most that"
        )
    for fewer in (4, 2, 1):
        if fewer < request.concurrency and isinstance(
            size(model, replace(request, concurrency=fewer), classes), Sizing
        ):
            fitting = f"{fewer} requests at once fit instead of {request.concurrency}"
            yield f"{fitting}: set spec.serving.concurrency to {fewer}"
            break
    if request.tensor_parallel or request.pipeline_parallel:
        free = size(model, replace(request, tensor_parallel=None, pipeline_parallel=None), classes)
        if isinstance(free, Sizing):
            yield (
                f"it fits on {_placed(free)}: remove "
                + ("spec.serving.tensorParallelSize" if request.tensor_parallel else "--pipeline-parallel-size")
                + ", so that the size is chosen"
            )


def _fewer_bits(model: Architecture, request: Request, classes: Sequence[AcceleratorClass]) -> Iterator[str]:
    if request.room or (request.scheme or model.quantization).packs or request.dtype == "float32":
        return
    for group in (128, 64, 32):
        packed = size(model, replace(request, scheme=replace(AWQ, group=group)), classes)
        if isinstance(packed, Sizing):
            yield (
                f"4-bit weights (AWQ, groups of {group}) fit on {_placed(packed)}: set spec.quantization.method to AWQ"
            )
            return


def _other_gpus(model: Architecture, request: Request, classes: Sequence[AcceleratorClass]) -> Iterator[str]:
    """Tries common GPUs of the same vendors, at most a node of them, in the order of the rule."""
    has_amd = any(each.resource.startswith("amd.") for each in classes)
    common = [
        accelerator_class(known.label, known.memory_mib * MIB, NODE_OF, 1)
        for known in KNOWN
        if has_amd or not known.label.startswith("AMD")
    ]
    sizing = size(model, request, common)
    if isinstance(sizing, Sizing):
        yield f"{_placed(sizing)} would hold it: offer such GPUs"


def _more_nodes(model: Architecture, request: Request, classes: Sequence[AcceleratorClass]) -> Iterator[str]:
    if request.several_nodes:
        return
    spread = size(model, replace(request, several_nodes=True), classes)
    if isinstance(spread, Sizing):
        option = spread.option
        hold = f"{option.layout.gpus} x {option.accelerator.name} on {option.layout.nodes} nodes hold it, which"
        if request.room:
            yield f"{hold} mode Dynamic does not span: set spec.mode to Merged, or choose larger GPUs"
        else:
            yield f"{hold} takes LeaderWorkerSet: install it (its CRD and controller), or choose larger GPUs"


def _placed(sizing: Sizing) -> str:
    layout = sizing.option.layout
    sizes = f"tensor-parallel size {layout.tensor_parallel}"
    sizes += f", {layout.pipeline_parallel} pipeline stages" if layout.pipeline_parallel > 1 else ""
    return f"{layout.gpus} x {sizing.option.accelerator.name} ({sizes})"
