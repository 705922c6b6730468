"""Whether vLLM can serve an adapter without merging it, and why not, from its config and tensors' names.

As vLLM decides when it loads an adapter (vllm/lora/peft_helper.py, lora_model.py, utils.py). Pure.
"""

from collections.abc import Sequence

from ftm_jobs.adapters.changes import AddBias, LowRank, Replace, ReplaceRows
from ftm_jobs.adapters.match import Update
from ftm_jobs.checkpoint.adapter_config import AdapterConfig

LARGEST_RANK = 512
"""vllm/config/lora.py, MaxLoRARanks."""
_MODULES = {"classifier", "score"}


def kinds(updates: Sequence[Update]) -> tuple[str, ...]:
    """What an adapter consists of, sorted."""
    found: set[str] = set()
    for update in updates:
        match update.change:
            case LowRank() as change:
                found.add("DoRA" if change.magnitude else "LoRA")
                if "lora_embedding_" in change.a.name:
                    found.add("Embedding")
                if change.expert:
                    found.add("Experts")
            case AddBias():
                found.add("Bias")
            case ReplaceRows():
                found.add("Tokens")
            case Replace():
                found.add("Modules")
    return tuple(sorted(found))


def objections(config: AdapterConfig, updates: Sequence[Update], scale: float) -> tuple[str, ...]:
    """A sentence for each reason why vLLM cannot serve the adapter unmerged."""
    found: list[str] = []
    rank = max((update.change.rank for update in updates if isinstance(update.change, LowRank)), default=config.rank)
    if rank > LARGEST_RANK:
        found.append(f"rank {rank} exceeds {LARGEST_RANK}, vLLM's largest")
    if scale != 1:
        found.append(f"scale {scale:g} applies only to a merge")
    if config.dora:
        found.append("vLLM has no DoRA")
    if config.lora_bias:
        found.append("vLLM has no lora_bias")
    if config.bias != "none":
        found.append(f'vLLM takes no trained biases (bias "{config.bias}")')
    if modules := sorted(set(config.modules_to_save) - _MODULES):
        found.append(f"vLLM takes no modules_to_save: {', '.join(modules)[:100]}")
    if config.token_indices:
        found.append("vLLM takes no trainable_token_indices")
    if not config.modules_to_save and (saved := _saved(updates)):
        found.append(f'vLLM does not take the adapter\'s own "{saved}"')
    return tuple(found)


def _saved(updates: Sequence[Update]) -> str | None:
    return next(
        (
            update.weight
            for update in updates
            if isinstance(update.change, Replace) and not update.change.tensor.name.endswith(".bias")
        ),
        None,
    )
