"""The plan where kinds of GPU are known: sizing.py's choice for what the spec asks, as status shows it. Pure.

AWQ's groups must divide what each rank holds, so a smaller group may allow a size that a larger one forbids: of the
groups that may be, the one that takes the fewest GPUs is chosen, and of those the largest.
"""

from collections.abc import Sequence
from dataclasses import replace

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.v1alpha1 import MOST_REJECTED, FineTunedModelSpec, Plan, RejectedSize
from ftm_operator.planning.answer import gpu_memory_utilization, pod_json, reasons, rejected_json
from ftm_operator.planning.decision import Decision
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.gpus.device_claim import device_selector
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.planning.model.padding import padded_widths
from ftm_operator.planning.model.quantization import Method, Scheme
from ftm_operator.planning.remedies import remedies
from ftm_operator.planning.requested import nothing_offered, offered, request_of
from ftm_operator.planning.rules.awq import GROUP_SIZES, AwqChoice
from ftm_operator.planning.rules.tensor_parallel import Rejection
from ftm_operator.planning.sizing import Correction, NoFit, Request, Sizing, size

MIB = 2**20


def sized(
    spec: FineTunedModelSpec,
    facts: Facts,
    classes: Sequence[AcceleratorClass],
    awq: AwqChoice | None = None,
    *,
    several_nodes: bool = True,
    corrections: Sequence[Correction] = (),
) -> Sizing | NoFit:
    """On which of the classes the model is served, and how."""
    allowed = offered(spec, classes)
    if not allowed:
        return NoFit(
            "NoAccelerators",
            nothing_offered(spec, classes),
            (),
        )
    model = architecture(facts.base)
    found = [size(model, request, allowed) for request in _requests(spec, awq, several_nodes, corrections)]
    fitting = [each for each in found if isinstance(each, Sizing)]
    return min(fitting, key=lambda each: (each.option.layout.gpus, each.option.layout.nodes)) if fitting else found[0]


def what_would_fit(
    spec: FineTunedModelSpec,
    facts: Facts,
    classes: Sequence[AcceleratorClass],
    found: NoFit,
    awq: AwqChoice | None = None,
    *,
    several_nodes: bool = True,
    corrections: Sequence[Correction] = (),
) -> list[str]:
    """A sentence for each change that would make the model fit."""
    model, allowed = architecture(facts.base), offered(spec, classes)
    request = _requests(spec, awq, several_nodes, corrections)[0]
    changes = remedies(model, request, allowed, found)
    if not several_nodes:
        spread = size(model, replace(request, several_nodes=True), allowed)
        if isinstance(spread, Sizing):
            option = spread.option
            changes.append(
                f"{option.layout.gpus} x {option.accelerator.name} on {option.layout.nodes} nodes hold it, which takes "
                "LeaderWorkerSet: install it (its CRD and controller), or choose larger GPUs"
            )
    return changes


def sized_plan(
    name: str,
    spec: FineTunedModelSpec,
    facts: Facts,
    classes: Sequence[AcceleratorClass],
    decision: Decision,
    *,
    several_nodes: bool = True,
    corrections: Sequence[Correction] = (),
) -> tuple[Plan, Decision] | Rejection:
    """How to serve the model; a Rejection says what is too large, or which rule is broken, and what would fit."""
    awq = decision.awq
    found = sized(spec, facts, classes, awq, several_nodes=several_nodes, corrections=corrections)
    if isinstance(found, NoFit):
        changes = what_would_fit(spec, facts, classes, found, awq, several_nodes=several_nodes, corrections=corrections)
        return Rejection(found.rule, "; ".join([found.reason, *changes]))
    if awq:
        awq = replace(awq, group_size=found.scheme.group, ranks=found.option.layout.tensor_parallel)
        decision = replace(decision, awq=awq)
    option, adapters = found.option, len(spec.adapters)
    layout, pod = option.layout, pod_json(found)
    plan = Plan(
        mode="Merged",
        engine="vLLM",
        quantization=decision.quantization if awq else found.scheme.label,
        group_size=awq.group_size if awq else None,
        quantizer=awq.engine if awq else None,
        dtype=option.dtype,
        max_model_len=option.context,
        concurrency=found.request.concurrency,
        tensor_parallel_size=layout.tensor_parallel,
        pipeline_parallel_size=layout.pipeline_parallel if layout.pipeline_parallel > 1 else None,
        nodes=layout.nodes if layout.nodes > 1 else None,
        accelerator=option.accelerator.resource,
        accelerator_class=option.accelerator.name,
        gpus=layout.gpus,
        device_selector=device_selector(found) if option.accelerator.by_claim else None,
        node_selector=pod.get("nodeSelector"),
        gpu_memory_utilization=gpu_memory_utilization(found),
        max_num_batched_tokens=option.batch.tokens,
        max_num_seqs=option.batch.sequences,
        kv_cache_tokens=option.memory.cache.tokens(option.memory.left, option.context),
        memory=dict(option.memory.items(found.request.concurrency, option.context)),
        host={
            "cpu": str(pod["cpu"]),
            "memory": f"{-(-pod['memory'] // MIB)}Mi",
            "sharedMemory": f"{-(-pod['sharedMemory'] // MIB)}Mi",
        },
        served_model_name=spec.serving.served_model_name or name,
        reasons=(
            f"Merged: {adapters} adapter{'s' if adapters > 1 else ''} folded into the weights",
            *decision.reasons,
            *_padding(found),
            *reasons(found),
        ),
        rejected=tuple(RejectedSize.model_validate(rejected_json(each)) for each in found.rejected[:MOST_REJECTED]),
    )
    return plan, decision


def _padding(found: Sizing) -> list[str]:
    ranks = found.option.layout.tensor_parallel
    widths = sorted(padded_widths(found.model, found.scheme, ranks).items())
    return [
        f"MLP width {width} padded with zeros to {new}: whole groups of {found.scheme.group}"
        + (f" on each of {ranks} ranks" if ranks > 1 else "")
        for width, new in widths
    ]


def _requests(
    spec: FineTunedModelSpec, awq: AwqChoice | None, several_nodes: bool, corrections: Sequence[Correction]
) -> list[Request]:
    """One for each way in which the weights may be packed, the preferred one first."""
    request = replace(request_of(spec), several_nodes=several_nodes, corrections=tuple(corrections))
    if awq is None:
        return [request]
    groups = [awq.group_size]
    if spec.quantization.awq.group_size is None:
        groups += [group for group in GROUP_SIZES if group < awq.group_size]
    method: Method = "awq" if awq.engine == "autoawq" else "compressed-tensors"
    schemes = [Scheme(method, 4, group, zero_point=True, in_the_making=True) for group in groups]
    return [replace(request, scheme=scheme) for scheme in schemes]
