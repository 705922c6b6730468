"""Says why vLLM cannot serve an adapter without merging it, from its config and its tensors' names.

vLLM applies these rules when it loads an adapter (vllm/lora/peft_helper.py, lora_model.py, utils.py). Pure.
"""

from collections.abc import Sequence

from ftm_jobs.adapters.base_names import BaseNames
from ftm_jobs.adapters.changes import AddBias, LowRank, Replace, ReplaceRows, Update
from ftm_jobs.adapters.tensor_names import is_plain
from ftm_jobs.checkpoint.adapter_config import AdapterConfig

LARGEST_RANK = 512
"""vllm/config/lora.py, MaxLoRARanks."""
OWN_TOKENIZER = "it was trained with a tokenizer or chat template of its own, and vLLM would use the base's"
_MODULES = {"classifier", "score"}


def kinds(updates: Sequence[Update]) -> tuple[str, ...]:
    """Returns the kinds of changes that an adapter consists of, sorted."""
    names: set[str] = set()
    for update in updates:
        match update.change:
            case LowRank() as change:
                names.add("DoRA" if change.magnitude else "LoRA")
                if "lora_embedding_" in change.a.name:
                    names.add("Embedding")
                if change.expert:
                    names.add("Experts")
            case AddBias():
                names.add("Bias")
            case ReplaceRows():
                names.add("Tokens")
            case Replace():
                names.add("Modules")
    return tuple(sorted(names))


def objections(
    config: AdapterConfig, updates: Sequence[Update], scale: float, base_names: BaseNames
) -> tuple[str, ...]:
    """Returns a sentence for each reason why vLLM cannot serve the adapter unmerged.

    vLLM looks a layer up by its name in the base's class: it serves the base alone where an adapter has another name.
    """
    sentences: list[str] = []
    rank = max((update.change.rank for update in updates if isinstance(update.change, LowRank)), default=config.rank)
    if rank > LARGEST_RANK:
        sentences.append(f"rank {rank} exceeds {LARGEST_RANK}, vLLM's largest")
    if scale != 1:
        sentences.append(f"scale {scale:g} applies only to a merge")
    if config.dora:
        sentences.append("vLLM has no DoRA")
    if config.lora_bias:
        sentences.append("vLLM has no lora_bias")
    if config.bias != "none":
        sentences.append(f'vLLM takes no trained biases (bias "{config.bias}")')
    if modules := sorted(set(config.modules_to_save) - _MODULES):
        sentences.append(f"vLLM takes no modules_to_save: {', '.join(modules)[:100]}")
    if config.token_indices:
        sentences.append("vLLM takes no trainable_token_indices")
    if not config.modules_to_save and (saved := _saved(updates)):
        sentences.append(f'vLLM does not take the adapter\'s own "{saved}"')
    if unknown := next((change for change in _low_rank(updates) if not _is_known(change, base_names)), None):
        sentences.append(f'vLLM does not know the name "{unknown.a.name}"')
    return tuple(sentences)


def _low_rank(updates: Sequence[Update]) -> list[LowRank]:
    return [update.low_rank for update in updates if update.low_rank]


def _is_known(change: LowRank, base_names: BaseNames) -> bool:
    weights = change.module, f"{change.module}.weight"
    return is_plain(change.a.name) and any(map(base_names.is_of_class, weights))


def _saved(updates: Sequence[Update]) -> str | None:
    return next(
        (
            update.weight
            for update in updates
            if isinstance(update.change, Replace) and not update.change.tensor.name.endswith(".bias")
        ),
        None,
    )
