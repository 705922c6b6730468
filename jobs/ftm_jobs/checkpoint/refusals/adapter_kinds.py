"""Refuses adapters whose kind, or a field of whose adapter_config.json, plain LoRA arithmetic does not follow. Pure.

Every field of PEFT's LoraConfig is in one of three lists: neutral, read, or refused with what the person can do. A
field in none of them that is set is refused too, so that a feature which changes the weights is never dropped in
silence. Source: peft/tuners/lora/config.py and variants.py of the pinned version.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from ftm_jobs.errors import InvalidInput, Reason

NEUTRAL_FIELDS = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_B_layout",
    "lora_dropout",
    "lora_dtype",
    "lora_ga_config",
    "lorap_emb_lr",
    "lorap_lr_ratio",
    "megatron_core",
    "merge_weights",
    "monteclora_config",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "unsloth_fused_expert_lora",
    "velora_config",
}
"""They steer training, or which layers are adapted, which the adapter's tensors say themselves.

VeLoRA stores fewer activations and MonteCLoRA samples noise while they train; both merge as plain LoRA.
"""
READ_FIELDS = {
    "alpha_pattern",
    "bias",
    "ensure_weight_tying",
    "fan_in_fan_out",
    "init_lora_weights",
    "lora_alpha",
    "lora_bias",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
    "use_rslora",
}
_MERGE_WITH_PEFT = "merge it with PEFT (merge_and_unload), save that model and name it as the base"
REFUSED_FIELDS = {
    "alora_invocation_tokens": "an activated LoRA (aLoRA) changes only the tokens after its invocation, so it works "
    "only while it is separate: serve it unmerged, with an engine that knows aLoRA",
    "arrow_config": "Arrow chooses among several adapters for each token, so it cannot be merged: name one of those "
    "adapters, or serve it with PEFT",
    "kasa_config": "KaSA takes singular values away from the base's weights and scales between A and B: "
    + _MERGE_WITH_PEFT,
    "layer_replication": "it repeats the base's layers and adapts each copy: save the model with its layers repeated "
    "so, name it as the base, and set layer_replication to null",
    "megatron_config": "it is for Megatron's parallel layers: convert the adapter to Hugging Face's names of layers",
    "use_bdlora": "BD-LoRA's A or B hold the blocks of a block-diagonal matrix, which plain LoRA would scramble: "
    + _MERGE_WITH_PEFT,
    "use_qalora": "QA-LoRA belongs to a GPTQ base and averages its inputs in groups, which PEFT cannot merge either: "
    "serve it with PEFT on that base",
}
"""Fields that change what is added, with what the person can do instead."""

_NEUTRAL_INITS = (None, True, False, "true", "false", "gaussian", "eva", "mica", "orthogonal")
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")

_PROMPTS = {"CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING"}
"""They put learned tokens or keys and values before the prompt, and change no weight."""
_SEPARATE = {"ADAPTION_PROMPT", "LILY", "POLY", "SHADOW", "XLORA"}
"""They add computation that no weight of the base can hold."""
MERGED_BY_PEFT = {
    "ADALORA",
    "ADAMSS",
    "BEFT",
    "BOFT",
    "C3A",
    "DEFT",
    "DELORA",
    "FOURIERFT",
    "FROD",
    "GLORA",
    "GRALORA",
    "HIRA",
    "HRA",
    "IA3",
    "LN_TUNING",
    "LOHA",
    "LOKR",
    "MISS",
    "OFT",
    "OSF",
    "PEANUT",
    "PSOFT",
    "PVERA",
    "RANDLORA",
    "ROAD",
    "SHIRA",
    "SUPERTUNING",
    "TINYLORA",
    "TRAINABLE_TOKENS",
    "UNILORA",
    "VBLORA",
    "VERA",
    "WAVEFT",
}
"""Other kinds of adapters that PEFT can merge."""
NEVER_MERGED = _PROMPTS | _SEPARATE

_NOT_PEFT = {
    "fine_tune_type": "it was trained with MLX, which names and stores LoRA in its own way: fuse it with mlx_lm.fuse, "
    "and name the fused model as the base",
    "lora_parameters": "it was trained with MLX, which names and stores LoRA in its own way: fuse it with "
    "mlx_lm.fuse, and name the fused model as the base",
    "config_id": "it belongs to the library adapters (AdapterHub): merge it there (merge_adapter) and name the merged "
    "model as the base",
    "model_class": "it belongs to the library adapters (AdapterHub): merge it there (merge_adapter) and name the "
    "merged model as the base",
}
"""Fields of other programs' adapter_config.json, which has no peft_type."""


def refuse_other_kinds(label: str, config: Mapping[str, Any]) -> None:
    """Raises InvalidInput (UnsupportedAdapter) where the adapter is not plain LoRA; `label` names its config."""
    _refuse_other_types(label, config)
    _refuse_inits(label, config)
    _refuse_other_packing(label, config)
    for name, remedy in REFUSED_FIELDS.items():
        if _is_set(config.get(name)):
            _refuse(label, f"{name} is {shown(config[name])}, which this merge does not support: {remedy}")
    for name, value in config.items():
        if name not in NEUTRAL_FIELDS | READ_FIELDS | REFUSED_FIELDS.keys() and _is_set(value):
            _refuse(
                label,
                f"{name} is {shown(value)}, a field that this merge does not know and that may change the weights: "
                "merge the adapter with the program that trained it, and name the merged model as the base",
            )


def shown(value: Any) -> str:
    """Returns a value as JSON, cut to 100 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 100 else text[:100] + "…"


def _refuse_other_types(label: str, config: Mapping[str, Any]) -> None:
    peft_type = config.get("peft_type")
    if peft_type == "LORA":
        return
    if peft_type is None:
        for field, remedy in _NOT_PEFT.items():
            if field in config:
                _refuse(label, f"it has no peft_type but {field}: {remedy}")
        _refuse(
            label,
            "it has no peft_type, so it is not as PEFT writes it: save the adapter with PEFT's save_pretrained, or "
            "merge it with the program that trained it",
        )
    remedy = "train a LoRA adapter with PEFT's LoraConfig"
    kind = peft_type.upper() if isinstance(peft_type, str) else ""
    if kind in MERGED_BY_PEFT:
        remedy = _MERGE_WITH_PEFT
    elif kind in _PROMPTS:
        remedy = "this kind changes no weight, so there is nothing to merge: serve it with PEFT"
    elif kind in _SEPARATE:
        remedy = "PEFT cannot merge this kind either: serve it with PEFT"
    _refuse(label, f"peft_type is {peft_type!r}, and only LORA adapters can be merged here: {remedy}")


def _refuse_inits(label: str, config: Mapping[str, Any]) -> None:
    init = config.get("init_lora_weights")
    text = init.lower() if isinstance(init, str) else init
    if isinstance(text, str) and text.startswith(_BASE_CHANGING_INITS):
        _refuse(
            label,
            f'init_lora_weights "{init}" changed the base when training began: save the adapter again with '
            "save_pretrained(path_initial_model_for_weight_conversion=…), which makes it plain LoRA",
        )
    if not any(text is neutral or (isinstance(text, str) and text == neutral) for neutral in _NEUTRAL_INITS):
        _refuse(
            label,
            f"init_lora_weights {str(init)[:100]!r} is not known here, and some ways to begin change the base: merge "
            "the adapter with the program that trained it, and name the merged model as the base",
        )


def _refuse_other_packing(label: str, config: Mapping[str, Any]) -> None:
    """Refuses experts' B that does not lie as PEFT reads it: (out, r·experts), experts fastest.

    Unsloth marks both ways (unsloth_zoo/temporary_patches/moe_utils.py), for each parameter and for all.
    """
    marks = config.get("unsloth_fused_expert_lora")
    parameters = marks.get("parameters") if isinstance(marks, Mapping) else None
    listed = list(parameters.values()) if isinstance(parameters, Mapping) else []
    for marked in (config, *(mark for mark in listed if isinstance(mark, Mapping))):
        layout = marked.get("lora_B_layout")
        if layout not in (None, "rank_major"):
            _refuse(
                label,
                f"lora_B_layout is {shown(layout)}, in which PEFT's arithmetic would give experts each other's "
                "columns: merge the adapter with Unsloth and name the merged model as the base, or store each B of "
                "experts as B.reshape(out, experts, r).transpose(1, 2).reshape(out, -1) and say rank_major",
            )


def _is_set(value: Any) -> bool:
    return value not in (None, False, "none", "", 0, [], {})


def _refuse(label: str, text: str) -> NoReturn:
    raise InvalidInput(Reason.UNSUPPORTED_ADAPTER, f"{label}: {text}")
