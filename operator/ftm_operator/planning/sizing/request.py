"""Reads from a spec what is asked of the sizing: its own fields, and the flags in extraArgs that change the memory."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftm_jobs.contract.facts import AdapterFacts
from ftm_operator.api.v1alpha1 import FineTunedModelSpec
from ftm_operator.planning.memory.engine_setup import DEFAULT_VERSION, ENGINE, AdapterSlots, Draft, EngineSetup, Version
from ftm_operator.planning.memory.reserves import UTILIZATION
from ftm_operator.planning.model.quantization import Scheme
from ftm_operator.planning.sizing.adapter_room import AdapterRoom

CONCURRENCY = 8
"""Sequences at the full context that must fit at once, by default."""
FLAGS = (
    "--max-num-batched-tokens",
    "--max-num-seqs",
    "--kv-cache-dtype",
    "--mamba-cache-dtype",
    "--mamba-ssm-cache-dtype",
    "--pipeline-parallel-size",
    "--speculative-config",
    "--speculative-config.method",
    "--speculative-config.num-speculative-tokens",
    "-sc",
    "--max-loras",
    "--max-lora-rank",
)
ENABLE_LORA = {"--enable-lora", "--enable_lora"}
LORA_SLOTS = 1
LORA_RANK = 16
"""vLLM's defaults. Source: config/lora.py."""
STATE_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Correction:
    """Bytes that an engine held of each GPU beyond the estimate, on this kind of GPU with these sizes."""

    accelerator: str
    tensor_parallel: int
    pipeline_parallel: int
    held_bytes: int
    """Below zero where it held less."""


@dataclass(frozen=True)
class KnownEngine:
    """The engine's version and measurements, which the spec does not say."""

    version: Version | None = DEFAULT_VERSION
    """None: its image's tag names none."""
    corrections: tuple[Correction, ...] = ()
    """Measurements of the same model; of several with the same sizes the last counts."""
    adapters: tuple[AdapterFacts, ...] = ()
    """Adapters that it is to hold beside the base, besides those of the spec."""


DEFAULT_ENGINE = KnownEngine()


@dataclass(frozen=True)
class Request:
    """The choices that are made already; None leaves one to the planner."""

    context: int | None = None
    """--max-model-len, in tokens."""
    concurrency: int = CONCURRENCY
    dtype: str = "auto"
    scheme: Scheme | None = None
    """The packing of the weights; None: as they are stored."""
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    utilization: float = UTILIZATION
    cache_dtype: str = "auto"
    """fp8 halves the KV cache."""
    batched_tokens: int | None = None
    batched_sequences: int | None = None
    engine: EngineSetup = ENGINE
    recurrent_dtype: str | None = None
    """The dtype of recurrent states; None: what the model says."""
    state_dtype: str | None = None
    """The dtype of convolutions' states, and of recurrent ones of which nothing is said; None: that of serving."""
    prefix_caching: bool | None = None
    """Each layer with a state keeps two of them for a sequence; None: as the engine's version does."""
    expert_parallel: bool = False
    """Each rank holds whole experts."""
    several_nodes: bool = True
    """True if a replica may span nodes, which takes LeaderWorkerSet in a cluster."""
    room: AdapterRoom | None = None
    """The room for adapters beside the base; None in mode Merged."""
    corrections: tuple[Correction, ...] = ()
    """Measurements of the same model; of several with the same sizes the last counts."""


def request_of(spec: FineTunedModelSpec) -> Request:
    """Returns the request that the spec makes by its fields and flags."""
    serving = spec.serving
    flags = _flags(serving.extra_args)
    cache_dtype = kv_cache_dtype(serving.extra_args)
    recurrent_dtype, state_dtype = flags.get("--mamba-ssm-cache-dtype"), flags.get("--mamba-cache-dtype")
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
        engine=EngineSetup(
            eager="--enforce-eager" in serving.extra_args,
            draft=_draft(flags),
            slots=_slots(flags) if ENABLE_LORA & {*serving.extra_args} else None,
        ),
        recurrent_dtype=recurrent_dtype if recurrent_dtype in STATE_DTYPES else None,
        state_dtype=state_dtype if state_dtype in STATE_DTYPES else None,
        prefix_caching=_prefix_caching(serving.extra_args),
        expert_parallel="--enable-expert-parallel" in serving.extra_args or "-ep" in serving.extra_args,
    )


def kv_cache_dtype(arguments: Sequence[str]) -> str:
    """Returns the dtype that vLLM is told to keep keys and values in."""
    return _flags(arguments).get("--kv-cache-dtype", "auto")


def _prefix_caching(arguments: Sequence[str]) -> bool | None:
    """Returns what the last of the two flags says; None: there is none."""
    said = [each for each in arguments if each in ("--enable-prefix-caching", "--no-enable-prefix-caching")]
    return said[-1] == "--enable-prefix-caching" if said else None


def _draft(flags: Mapping[str, str]) -> Draft | None:
    """Returns the draft of --speculative-config, as JSON or by its fields; of an unknown method if none can be read."""
    text = flags.get("--speculative-config", flags.get("-sc"))
    fields = {name: flags.get(f"--speculative-config.{name}") for name in ("method", "num-speculative-tokens")}
    if text is None and not any(fields.values()):
        return None
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError):
        content = {}
    said = content if isinstance(content, dict) else {}
    method = fields["method"] or said.get("method")
    tokens = fields["num-speculative-tokens"] or said.get("num_speculative_tokens")
    return Draft(method if isinstance(method, str) else "", _whole(str(tokens)) or 1)


def _slots(flags: Mapping[str, str]) -> AdapterSlots:
    return AdapterSlots(
        _whole(flags.get("--max-loras")) or LORA_SLOTS, _whole(flags.get("--max-lora-rank")) or LORA_RANK
    )


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    """Returns the values of FLAGS, written as --flag=value or --flag value, with _ for - as vLLM takes it."""
    values = {}
    for position, argument in enumerate(arguments):
        flag, separator, value = argument.partition("=")
        name = flag.replace("_", "-")
        if name in FLAGS and (separator or position + 1 < len(arguments)):
            values[name] = value if separator else arguments[position + 1]
    return values


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and int(text) > 0 else None
