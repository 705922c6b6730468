"""Reads from vLLM's log lines how much memory it has when it starts, or lacks when it gives up. Pure.

    v1/worker/gpu_model_runner.py       Model loading took 6.75 GiB memory and 3.217 seconds
    v1/worker/gpu_worker.py             Available KV cache memory: 11.87 GiB
    v1/core/kv_cache_utils.py           GPU KV cache size: 194,464 tokens, Maximum concurrency for 8,192 tokens per
                                        request: 23.74x
    the same                            To serve at least one request with the model's max seq len (8192), (1.0 GiB KV
                                        cache is needed, which is larger than the available KV cache memory (0.5 GiB)
    the same                            No available memory for the cache blocks.
    v1/worker/utils.py                  Free memory on device cuda:0 (60.1/79.18 GiB) on startup is less than desired
                                        GPU memory utilization (0.92, 72.85 GiB)
    V0's worker/worker.py               model weights take 14.96GiB; … the rest of the memory reserved for KV Cache is
                                        53.29GiB
    torch                               CUDA out of memory. Tried to allocate 2.00 GiB.

vLLM rounds to hundredths of a GiB. Every rank may say so, behind a prefix such as `(Worker_TP1 pid=93)`: of the weights
the largest counts, of the KV cache the smallest. What follows the start is not read, since requests may be logged there
and say anything.
"""

import re
from dataclasses import dataclass

from ftm_jobs.contract.byte_counts import GIB, format_gib
from ftm_operator.api.v1alpha1 import Measured, Plan
from ftm_operator.planning.memory.kv_cache import BLOCK_TOKENS

STARTED = "Application startup complete"
"""The line that the API server logs once it answers."""

GIB_NUMBER = r"(-?\d{1,6}(?:\.\d{1,9})?)"
WEIGHTS = re.compile(rf"(?:Model loading took {GIB_NUMBER} GiB(?: memory)? and|model weights take {GIB_NUMBER}GiB)")
AVAILABLE = re.compile(
    rf"(?:Available KV cache memory: {GIB_NUMBER} GiB|memory reserved for KV Cache is {GIB_NUMBER}GiB)"
)
TOKENS = re.compile(r"KV cache size: ([\d,]{1,20}) tokens")
CONCURRENCY = re.compile(r"Maximum concurrency for [\d,]{1,20} tokens per request: (\d{1,12}\.\d{2})x")
TOO_LITTLE = re.compile(
    rf"\({GIB_NUMBER} GiB KV cache is needed, which is larger than the available KV cache memory \({GIB_NUMBER} GiB\)"
)
NOTHING_LEFT = "No available memory for the cache blocks"
NOT_FREE = re.compile(rf"Free memory on device \S{{1,40}} \({GIB_NUMBER}/{GIB_NUMBER} GiB\) on startup is less than")
OUT_OF_MEMORY = re.compile(r"(?:CUDA|HIP) out of memory(?:\. Tried to allocate (\d{1,6}(?:\.\d{1,9})? [KMG]iB))?")


@dataclass(frozen=True)
class Lack:
    """The lack of memory for which the engine did not start."""

    said: str
    """The engine's own words, in half a sentence."""
    found_bytes: int | None = None
    """Bytes that it had for the KV cache; below zero where the rest alone was too large, None where it did not say."""
    free_share: float | None = None
    """The share of the GPU that was free before the engine took anything, where others held too much of it."""


def measured_in(log: str) -> Measured | None:
    """Returns what a start took; None as long as nothing is said of the KV cache."""
    found = figures_in(log)
    return None if found.kv_cache_bytes is None and found.kv_cache_tokens is None else found


def figures_in(log: str) -> Measured:
    """Returns what a start took, as far as the log says."""
    log = log.partition(STARTED)[0]
    weights, available = _bytes(WEIGHTS, log), _bytes(AVAILABLE, log)
    tokens = [int(each.replace(",", "")) for each in TOKENS.findall(log) if each.strip(",")]
    concurrency = [float(each) for each in CONCURRENCY.findall(log)]
    return Measured(
        weight_bytes=max(weights, default=None),
        kv_cache_bytes=min(available, default=None),
        kv_cache_tokens=min(tokens, default=None),
        max_concurrency=min(concurrency, default=None),
    )


def lack_in(log: str) -> Lack | None:
    """Returns why a start failed, if it was for lack of memory; None for a run that had started.

    `log`: the last words of a container, or the end of its log.
    """
    if STARTED in log:
        return None
    if match := NOT_FREE.search(log):
        free, total = (float(each) for each in match.groups())
        said = f"{free:.2f} of {total:.2f} GiB were free at the start"
        return Lack(said, free_share=min(free / total, 1.0) if total > 0 else 0.0)
    if pairs := TOO_LITTLE.findall(log):
        needed, found_gib = max(float(pair[0]) for pair in pairs), min(float(pair[1]) for pair in pairs)
        said = f"one request needs {needed:.2f} GiB of KV cache and {found_gib:.2f} GiB are there"
        return Lack(said, found_bytes=round(found_gib * GIB))
    if NOTHING_LEFT in log:
        return Lack("no memory is left for the KV cache", found_bytes=min([0, *_bytes(AVAILABLE, log)]))
    if match := OUT_OF_MEMORY.search(log):
        tried = f": tried to allocate {match[1]}" if match[1] else ""
        return Lack(f"out of memory{tried}")
    return None


def estimated_kv_cache_bytes(plan: Plan) -> int | None:
    """Returns what the estimate leaves for the KV cache, without any correction; None if the plan is not sized."""
    if not plan.memory or "kvCache" not in plan.memory:
        return None
    return plan.memory["kvCache"] + plan.memory.get("measuredCorrection", 0)


def planned_kv_cache_bytes(plan: Plan) -> int:
    """Returns what the plan leaves for the KV cache, its corrections included; 0 if it is not sized."""
    return (plan.memory or {}).get("kvCache", 0)


def correction_bytes(plan: Plan, found_bytes: int | None) -> int:
    """Returns what the next plan of the same sizes holds beyond the estimate, after a start that found so little.

    At least a block more than before, and all that was planned for the KV cache where the engine did not say.
    """
    planned = planned_kv_cache_bytes(plan)
    block = BLOCK_TOKENS * planned // (plan.kv_cache_tokens or BLOCK_TOKENS)
    missing = planned if found_bytes is None else planned - found_bytes
    return (plan.memory or {}).get("measuredCorrection", 0) + max(missing, block, 1)


def found_and_planned(plan: Plan, lack: Lack) -> str:
    """Says how much was found and planned, and on which GPU."""
    where = f"{'each ' if (plan.gpus or 0) > 1 else ''}{plan.accelerator_class or plan.accelerator}"
    if not plan.memory:
        return f"vLLM did not start on {where}: {lack.said}; the plan was not sized, since no kind of GPU is known"
    planned = format_gib(planned_kv_cache_bytes(plan))
    if lack.found_bytes is None:
        return f"vLLM did not start on {where}: {lack.said}; {planned} were planned for the KV cache"
    return f"vLLM found {format_gib(lack.found_bytes)} for the KV cache on {where} where {planned} were planned"


def what_to_do(plan: Plan, lack: Lack) -> str:
    """Says what to write, or to stop, so that the engine starts."""
    if lack.free_share is not None:
        share = int(lack.free_share * 100) / 100
        return f"stop what else uses the GPU, or set spec.serving.gpuMemoryUtilization to at most {share:g}"
    change = "raise" if lack.found_bytes is not None else "lower"
    now = f" of {plan.gpu_memory_utilization:g}" if plan.gpu_memory_utilization else ""
    return (
        f"set spec.serving.maxModelLen below {plan.max_model_len}, offer a larger GPU, "
        f"or {change} spec.serving.gpuMemoryUtilization{now}"
    )


def _bytes(pattern: re.Pattern[str], log: str) -> list[int]:
    return [round(float(each) * GIB) for match in pattern.finditer(log) for each in match.groups() if each]
