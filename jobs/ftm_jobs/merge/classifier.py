"""Plans the classifier that a language model becomes by an adapter's head: its class, its labels, what it lacks. Pure.

transformers' classifiers have the language model's layers and a head (score, classifier) for its output layer
(transformers/modeling_layers.py, GenericForSequenceClassification).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.changes import Replace, Update
from ftm_jobs.adapters.classifier_head import HEADS, is_classifier_head
from ftm_jobs.adapters.mismatch import unsupported_adapter
from ftm_jobs.checkpoint.embeddings import OUTPUT_LAYERS, layer_of
from ftm_jobs.contract.keys import ClassifierTask
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.merge.conflicts import through_output_layer

_EITHER_TASK = """
arcee bloom deepseek_v3 diffllama exaone4 falcon gemma gemma2 glm glm4 gpt2 gpt_bigcode gpt_neo gpt_neox gpt_oss helium
llama minimax ministral ministral3 mistral mistral4 mixtral mpt nemotron persimmon phi phi3 qwen2 qwen2_moe qwen3
qwen3_5 qwen3_moe qwen3_next seed_oss smollm3 stablelm starcoder2 biogpt
"""
_SEQUENCES = """
deepseek_v2 doge gemma3 gemma3_text gptj hunyuan_v1_dense hunyuan_v1_moe jamba jetmoe olmo olmo2 olmo3 opt phimoe
qwen3_5_text zamba zamba2
"""
_TOKENS = "apertus"
FAMILIES: Mapping[ClassifierTask, frozenset[str]] = {
    ClassifierTask.SEQUENCE: frozenset((_EITHER_TASK + _SEQUENCES).split()),
    ClassifierTask.TOKEN: frozenset((_EITHER_TASK + _TOKENS).split()),
}
"""Model types of language models for which transformers has a classifier (transformers/models/auto)."""
_SUFFIXES = {ClassifierTask.SEQUENCE: "ForSequenceClassification", ClassifierTask.TOKEN: "ForTokenClassification"}
_GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True)
class Classifier:
    """Holds what config.json says of a classifier beside what it says of its language model."""

    architecture: str
    labels: int
    dropped: frozenset[str]
    """The language model's tensors that it does not have."""


def classifier(
    base: BaseTensors,
    config: Mapping[str, Any],
    task: ClassifierTask,
    files: Sequence[str],
    updates: Mapping[str, Sequence[Update]],
) -> Classifier:
    """Returns the classifier that the updates, by adapters of these `files`, make of the base.

    Raises InvalidInput (UnsupportedBase, UnsupportedAdapter) where there is no such class, or no head.
    """
    heads = [changes for name, changes in updates.items() if is_classifier_head(name) and name not in base.by_name]
    rows = [update.change.tensor.shape[0] for head in heads for update in head if isinstance(update.change, Replace)]
    if not rows:
        raise unsupported_adapter(
            f"--task {task} is for an adapter with a head ({', '.join(HEADS)}) that {base.uri} does not have, "
            "and none of the adapters holds one: leave out --task"
        )
    architecture = class_of(base.model_type, config.get("architectures"), task)
    if architecture is None:
        raise InvalidInput(
            Reason.UNSUPPORTED_BASE,
            f"{base.uri} is of model_type {base.model_type}, of which transformers has no class "
            f"{_SUFFIXES[task]} for a language model: use the adapter unmerged, with PEFT",
        )
    dropped = frozenset(name for name in base.by_name if layer_of(name) in OUTPUT_LAYERS)
    for name, changes in updates.items():
        if any(name in dropped or through_output_layer(update.change) for update in changes):
            raise unsupported_adapter(
                f"{files[changes[0].change.adapter]} adapts the output layer of {base.uri}, which a classifier does "
                "not have: train the adapter without it, or leave out --task"
            )
    return Classifier(architecture, rows[0], dropped)


def class_of(model_type: str, architectures: Any, task: ClassifierTask) -> str | None:
    """Returns transformers' class of the classifier; None where it has none."""
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    suffix = next((end for end in _GENERATES if name.endswith(end)), None)
    if suffix is None or model_type not in FAMILIES[task]:
        return None
    text = "Text" if model_type.endswith("_text") else ""
    return f"{name.removesuffix(suffix)}{text}{_SUFFIXES[task]}"
