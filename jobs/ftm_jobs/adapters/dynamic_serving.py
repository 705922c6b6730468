"""Says why an engine cannot serve an adapter without merging it, from its config and its tensors' names. Pure.

vLLM applies its rules when it loads an adapter (vllm/lora/peft_helper.py, lora_model.py, utils.py), and llama.cpp when
the adapter is converted and scaled (convert_lora_to_gguf.py, src/llama-adapter.h).
"""

from collections.abc import Iterator, Sequence
from math import isclose

from ftm_jobs.adapters.base_names import BaseNames
from ftm_jobs.adapters.changes import AddBias, LowRank, Replace, ReplaceRows, Update
from ftm_jobs.adapters.tensor_names import is_plain
from ftm_jobs.checkpoint.adapter_config import AdapterConfig
from ftm_jobs.contract.facts import of_encoder

LARGEST_RANK = 512
"""vllm/config/lora.py, MaxLoRARanks."""
OWN_TOKENIZER = "it was trained with a tokenizer or chat template of its own, and the base's would be used"
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
    rank = served_rank(config, updates)
    sentences = [f"rank {rank} exceeds {LARGEST_RANK}, vLLM's largest"] if rank > LARGEST_RANK else []
    if scale != 1:
        sentences.append(f"scale {scale:g} applies only to a merge")
    return (*sentences, *_config_objections(config), *_tensor_objections(config, updates, base_names))


def llama_cpp_objections(updates: Sequence[Update], base_names: BaseNames) -> tuple[str, ...]:
    """Returns a sentence for each reason why llama.cpp cannot serve the adapter unmerged."""
    sentences: list[str] = []
    changes = _low_rank(updates)
    if any(change.magnitude for change in changes):
        sentences.append("llama.cpp has no DoRA")
    if other := next((update for update in updates if update.low_rank is None), None):
        sentences.append(f'llama.cpp takes LoRA alone, and not "{other.change.tensors[0].name}"')
    if experts := next((change.a.name for change in changes if change.expert), None):
        sentences.append(f'llama.cpp does not know LoRA on the parameters of experts ("{experts}")')
    if encoder := next((change.a.name for change in changes if of_encoder(change.module)), None):
        sentences.append(f'llama.cpp adapts the language model alone, and ignores "{encoder}"')
    if unknown := next((change.a.name for change in changes if not _is_known(change, base_names)), None):
        sentences.append(f'llama.cpp does not know the name "{unknown}"')
    if not common_alpha(updates):
        alphas = [change.scaling * change.rank for change in changes] or [0.0]
        sentences.append(
            f"llama.cpp has one lora_alpha, other than 0, for all layers, and they need {min(alphas):g} to "
            f"{max(alphas):g}"
        )
    return tuple(sentences)


def common_alpha(updates: Sequence[Update]) -> float | None:
    """Returns the alpha by which alpha / rank is the scaling of every layer; None where there is no such."""
    alphas = [change.scaling * change.rank for change in _low_rank(updates)]
    return alphas[0] if alphas and all(isclose(alpha, alphas[0]) for alpha in alphas) else None


def _config_objections(config: AdapterConfig) -> Iterator[str]:
    if config.dora:
        yield "vLLM has no DoRA"
    if config.lora_bias:
        yield "vLLM has no lora_bias"
    if config.bias != "none":
        yield f'vLLM takes no trained biases (bias "{config.bias}")'
    if modules := sorted(set(config.modules_to_save) - _MODULES):
        yield f"vLLM takes no modules_to_save: {', '.join(modules)[:100]}"
    if config.token_indices:
        yield "vLLM takes no trainable_token_indices"


def _tensor_objections(config: AdapterConfig, updates: Sequence[Update], base_names: BaseNames) -> Iterator[str]:
    changes = _low_rank(updates)
    if not config.modules_to_save and (saved := _saved(updates)):
        yield f'vLLM does not take the adapter\'s own "{saved}"'
    if experts := next((change.a.name for change in changes if change.expert), None):
        yield f'most of vLLM\'s classes ignore LoRA on the parameters of experts ("{experts}")'
    if encoder := next((change.a.name for change in changes if of_encoder(change.module)), None):
        yield f'vLLM adapts the language model alone, and ignores "{encoder}"'
    if unknown := next((change.a.name for change in changes if not _is_known(change, base_names)), None):
        yield f'vLLM does not know the name "{unknown}"'


def served_rank(config: AdapterConfig, updates: Sequence[Update]) -> int:
    """Returns the rank that vLLM reserves for the adapter: the largest that its config or a layer has.

    Source: vllm/lora/peft_helper.py, validate_legal.
    """
    return max([config.rank, *config.rank_pattern.values(), *(change.rank for change in _low_rank(updates))])


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
