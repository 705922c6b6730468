"""Says why each part of a sizing was chosen, one sentence each. Bytes are of the rank that holds most. Pure."""

from ftm_jobs.contract.byte_counts import format_gib
from ftm_operator.planning.memory.reserves import Reserve, default_batch
from ftm_operator.planning.model.padding import padded_widths
from ftm_operator.planning.sizing.outcome import Sizing, gpus, requests_of

TITLES = {
    "activations": "activations",
    "encoder": "encoder",
    "cudaGraphs": "CUDA graphs",
    "nonTorch": "NCCL and the like",
    "rotary": "rotary table",
    "deepstack": "deepstack buffers",
    "chosenTokens": "chosen tokens",
    "slack": "slack",
    "lora": "LoRA slots",
    "speculation": "draft heads",
}
"""The reserves as people read them."""


def reasons(sizing: Sizing) -> list[str]:
    """Returns the sentences in the order in which the choices were made."""
    return [
        *_padding_reasons(sizing),
        _size_reason(sizing),
        _layout_reason(sizing),
        _dtype_reason(sizing),
        _context_reason(sizing),
        _batch_reason(sizing),
        _reserves_reason(sizing),
        *_asked_reasons(sizing),
        *_correction_reason(sizing),
    ]


def _padding_reasons(sizing: Sizing) -> list[str]:
    """Says which MLP widths the AWQ Job pads, for weights that are yet to be packed."""
    ranks = sizing.option.layout.tensor_parallel
    widths = sorted(padded_widths(sizing.model, sizing.scheme, ranks).items())
    return [
        f"MLP width {width} padded with zeros to {new}: whole groups of {sizing.scheme.group}"
        + (f" on each of {ranks} ranks" if ranks > 1 else "")
        for width, new in widths
    ]


def _size_reason(sizing: Sizing) -> str:
    option, request, memory = sizing.option, sizing.request, sizing.option.memory
    needed = memory.cache.needed_bytes(request.concurrency, option.context)
    on_each = "on each " if option.layout.gpus > 1 else ""
    return (
        f"{option.layout.gpus} x {option.accelerator.name}: the fewest GPUs that hold {on_each}"
        f"{format_gib(memory.weights)} of weights, {format_gib(memory.held - memory.weights)} of reserves and "
        f"{format_gib(needed)} of KV cache for "
        f"{requests_of(request.concurrency, option.context)} in {format_gib(memory.budget)}"
    )


def _layout_reason(sizing: Sizing) -> str:
    model, layout, asked = sizing.model, sizing.option.layout, sizing.request.tensor_parallel
    sentence = f"tensor-parallel size {layout.tensor_parallel}"
    sentence += " from spec.serving.tensorParallelSize" if asked else ""
    sentence += f": {model.heads} attention heads" + (
        "" if model.latent else f" and {model.key_value_heads} key-value heads"
    )
    sentence += (
        " divide by it"
        if model.latent or model.key_value_heads >= layout.tensor_parallel
        else (" divide by it, the latter held by several GPUs each")
    )
    if layout.nodes > 1:
        sentence += (
            f"; {layout.pipeline_parallel} pipeline stages over {layout.nodes} nodes, since one node's "
            f"{gpus(sizing.option.accelerator.per_node)} do not hold it"
        )
    elif layout.pipeline_parallel > 1:
        sentence += f"; {layout.pipeline_parallel} pipeline stages, since no larger tensor-parallel size is possible"
    return sentence


def _dtype_reason(sizing: Sizing) -> str:
    option, packed = sizing.option, sizing.scheme
    if sizing.request.dtype != "auto":
        sentence = f"dtype {option.dtype}: from spec.serving.dtype"
    elif sizing.model.dtype == "BF16" and option.dtype != "bfloat16":
        sentence = (
            f"dtype {option.dtype}: the weights are bfloat16, which {option.accelerator.name} does not compute in"
        )
    elif sizing.model.dtype == "F32":
        sentence = f"dtype {option.dtype}: float32 weights are served in 16 bits"
    else:
        sentence = f"dtype {option.dtype}: the weights' own"
    return f"{sentence}; weights in {packed.label}" if packed.packs else sentence


def _context_reason(sizing: Sizing) -> str:
    option, limit = sizing.option, sizing.model.max_context
    if sizing.request.context:
        return f"context {option.context} tokens: from spec.serving.maxModelLen"
    if option.context == limit:
        return f"context {option.context} tokens: the model's own limit"
    return (
        f"context {option.context} tokens: the longest of which {sizing.request.concurrency} requests fit at once, in "
        f"whole blocks of {option.memory.cache.block_tokens} tokens; the model's own limit is {limit} tokens"
    )


def _batch_reason(sizing: Sizing) -> str:
    option = sizing.option
    accelerator = option.accelerator
    default = default_batch(accelerator.usable_bytes, accelerator.product or accelerator.name)
    sentence = f"batch of {option.batch.tokens} tokens and {option.batch.sequences} sequences: "
    if sizing.request.batched_tokens or sizing.request.batched_sequences:
        return sentence + "from spec.serving.extraArgs"
    if option.batch == default:
        return sentence + f"vLLM's default for {accelerator.name}"
    return (
        sentence
        + f"vLLM's default of {default.tokens} and {default.sequences} leaves too little memory for the KV cache"
    )


def _reserves_reason(sizing: Sizing) -> str:
    """Says which of the reserves are measured constants, both ends of them, and how many logs are behind each."""
    memory, engine = sizing.option.memory, sizing.request.engine
    measured = ", ".join(
        f"{TITLES[name]} {_ends(each)} ({each.logs} logs)"
        for name, each in memory.reserves.items()
        if each.basis == "Measured" and each.most
    )
    return (
        f"reserves of {engine.said} with model runner {engine.runner(sizing.model)} are held as the most that start-up "
        f"logs show: {measured}; weights, KV cache and all else are formulae"
    )


def _asked_reasons(sizing: Sizing) -> list[str]:
    """Says what LoRA slots and speculation take, and what of them is not known."""
    reserves, engine = sizing.option.memory.reserves, sizing.request.engine
    said: list[str] = []
    if engine.slots and sizing.request.room:
        said += sizing.request.room.reasons(engine.slots.count)
    if engine.slots:
        rank = f"{engine.slots.count} of rank {engine.slots.rank}"
        said.append(f"LoRA slots, {rank}: {_ends(reserves['lora'])}, with those of the embedding and the output layer")
    if engine.draft and "speculation" in reserves:
        size = _ends(reserves["speculation"])
        said.append(f"draft heads of {engine.draft.method}: {size}, and their layers of the KV cache")
    elif engine.draft and engine.draft.is_unknown:
        said.append(
            "the draft of --speculative-config is not counted, since nothing is known of its weights; leave it room by "
            "spec.serving.gpuMemoryUtilization"
        )
    return said


def _ends(reserve: Reserve) -> str:
    least, most = format_gib(reserve.least), format_gib(reserve.most)
    return most if least == most else f"{least.removesuffix(' GiB')} to {most}"


def _correction_reason(sizing: Sizing) -> list[str]:
    correction = sizing.option.memory.correction
    if not correction:
        return []
    held = f"{format_gib(abs(correction))} {'more' if correction > 0 else 'less'}"
    kind = sizing.option.accelerator.name
    return [f"{held} of reserves than estimated: by what vLLM was measured to hold of {kind}"]
