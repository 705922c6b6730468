"""Writes the plan of a model on known GPUs as status shows it: the sizing's choice, the decision's, and why. Pure."""

from dataclasses import replace

from ftm_jobs.contract.byte_counts import MIB
from ftm_operator.api.v1alpha1 import MOST_REJECTED, FineTunedModelSpec, Plan, RejectedSize
from ftm_operator.planning.decision import Decision
from ftm_operator.planning.memory.host import HostResources, vllm_host
from ftm_operator.planning.sizing.device_claim import device_selector
from ftm_operator.planning.sizing.outcome import RejectedLayout, Sizing
from ftm_operator.planning.sizing.reasons import reasons


def gpu_plan(model_name: str, spec: FineTunedModelSpec, decision: Decision, sizing: Sizing, why_mode: str) -> Plan:
    """Returns the plan of a model that `sizing` places; `decision` is as `decision_for` adapts it."""
    option, awq = sizing.option, decision.awq
    room, slots = sizing.request.room, sizing.request.engine.slots
    layout, memory, labels = option.layout, option.memory, option.accelerator.node_labels
    return Plan(
        mode=decision.mode,
        adapters=room.planned(slots.count) if room and slots else None,
        engine="vLLM",
        quantization=decision.quantization if awq else sizing.scheme.label,
        group_size=awq.group_size if awq else None,
        quantizer=awq.engine if awq else None,
        dtype=option.dtype,
        max_model_len=option.context,
        concurrency=sizing.request.concurrency,
        tensor_parallel_size=layout.tensor_parallel,
        pipeline_parallel_size=layout.pipeline_parallel if layout.pipeline_parallel > 1 else None,
        nodes=layout.nodes if layout.nodes > 1 else None,
        accelerator=option.accelerator.resource,
        accelerator_class=option.accelerator.name,
        gpus=layout.gpus,
        device_selector=device_selector(sizing) if option.accelerator.by_claim else None,
        node_selector=dict(labels) if labels else None,
        gpu_memory_utilization=gpu_memory_utilization(sizing),
        max_num_batched_tokens=option.batch.tokens,
        max_num_seqs=option.batch.sequences,
        kv_cache_tokens=memory.cache.tokens(memory.left, option.context),
        memory=dict(memory.items(sizing.request.concurrency, option.context)),
        host=_quantities(host_of(sizing)),
        served_model_name=spec.serving.served_model_name or model_name,
        reasons=(why_mode, *decision.reasons, *reasons(sizing)),
        rejected=tuple(rejected_size(layout) for layout in sizing.rejected[:MOST_REJECTED]),
    )


def decision_for(decision: Decision, sizing: Sizing) -> Decision:
    """Returns the decision with the AWQ groups and ranks that the sizing takes."""
    if decision.awq is None:
        return decision
    ranks = sizing.option.layout.tensor_parallel
    return replace(decision, awq=replace(decision.awq, group_size=sizing.scheme.group, ranks=ranks))


def gpu_memory_utilization(sizing: Sizing) -> float:
    """Returns the share of a GPU that the engine is told to take; a part of it where pods share the GPU."""
    return round(sizing.request.utilization / sizing.option.accelerator.shared_by, 4)


def host_of(sizing: Sizing) -> HostResources:
    """Returns what one pod asks of its node; there is one on each node."""
    layout, room = sizing.option.layout, sizing.request.room
    adapters = room.host_bytes if room else 0
    return vllm_host(layout.gpus // layout.nodes, sizing.option.memory.weights, adapters)


def rejected_size(rejected: RejectedLayout) -> RejectedSize:
    """Returns the rejected layout as status shows it."""
    return RejectedSize(
        accelerator=rejected.accelerator,
        tensor_parallel_size=rejected.tensor_parallel,
        pipeline_parallel_size=rejected.pipeline_parallel if rejected.pipeline_parallel > 1 else None,
        rule=rejected.rule,
        reason=rejected.reason,
    )


def _quantities(host: HostResources) -> dict[str, str]:
    return {
        "cpu": str(host.cpus),
        "memory": f"{-(-host.memory_bytes // MIB)}Mi",
        "sharedMemory": f"{-(-host.shared_memory_bytes // MIB)}Mi",
    }
