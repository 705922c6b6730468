"""Makes weight_names.json: what transformers renames, splits and joins while it loads each class of model.

transformers looks a model's submodels up in its table by walking through the model, so each class is made once, small
and on the meta device, and the paths of its submodels are kept.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers
from transformers import AutoModel, PretrainedConfig, PreTrainedModel, SiglipVisionConfig, TimmWrapperConfig
from transformers.conversion_mapping import _build_checkpoint_conversion_mapping, get_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, GroupWeightRename, WeightTransform
from transformers.models.auto import modeling_auto

from ftm_jobs.transformers_tables.weight_names import TABLE

_DEPTHS = {"num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "depth"}
_DEPTHS |= {"num_encoder_layers", "num_decoder_layers"}
_LAYERS = 2
_FIXES: Mapping[str, Mapping[str, Any]] = {
    "chameleon": {"vocabulary_map": {"<image>": 1}},
    "deepseek_ocr2": {"text_config.mlp_layer_types": ["dense", "sparse"]},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "emu3": {"vocabulary_map": {"<image>": 1, "<|extra_200|>": 2}},
    "esm": {"vocab_size": 33},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "hunyuan_vl": {"text_config.head_dim": 128},
    "hunyuan_vl_text": {"head_dim": 128},
    "idefics3": {"text_config.pad_token_id": 0},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "ministral": {"head_dim": 128},
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 32},
    "nemotron": {"num_key_value_heads": 8},
    "smolvlm": {"text_config.pad_token_id": 0},
}
"""Fields that a config's defaults lack to make a model."""
_SMALL_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
}


def write() -> None:
    """Writes weight_names.json, a line for each class and key."""
    sections = [
        f"{json.dumps(name)}: {{\n{_lines(section)}\n}}" if isinstance(section, dict) else _line(name, section)
        for name, section in sorted(table().items())
    ]
    Path(TABLE).write_text("{\n" + ",\n".join(sections) + "\n}\n")


def _lines(section: Mapping[str, Any]) -> str:
    return ",\n".join(_line(name, section[name]) for name in sorted(section))


def _line(name: str, value: Any) -> str:
    return f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}"


def table() -> dict[str, Any]:
    """Returns the table, as weight_names.json holds it."""
    return {
        "transformers": transformers.__version__,
        "mappings": mappings(),
        "classes": {
            name: entry for name, model_type in class_types().items() if (entry := class_entry(name, model_type))
        },
        "base_classes": base_classes(),
        "usual_classes": usual_classes(),
    }


def mappings() -> dict[str, Any]:
    """Returns the transforms of each class or model type; a name where they are those of another."""
    written: dict[str, Any] = {}
    first_of: dict[str, str] = {}
    for key, transforms in sorted(conversions().items()):
        entries = [_transform(transform) for transform in transforms]
        first = first_of.setdefault(json.dumps(entries), key)
        written[key] = entries if first == key else first
    return written


def conversions() -> dict[str, list[WeightTransform]]:
    built: dict[str, list[WeightTransform]] = _build_checkpoint_conversion_mapping()  # type: ignore[no-untyped-call]
    return built


def _transform(transform: WeightTransform) -> dict[str, Any]:
    entry: dict[str, Any] = {"from": transform.source_patterns, "to": transform.target_patterns}
    operations = [written(operation) for operation in getattr(transform, "operations", [])]
    if operations:
        entry["operations"] = operations
    if isinstance(transform, GroupWeightRename):
        entry["together"] = True
    return entry


def written(operation: ConversionOps) -> str:
    settings = sorted((name, value) for name, value in vars(operation).items() if value is not None)
    return " ".join([type(operation).__name__, *(f"{name}={value}" for name, value in settings)])


def base_classes() -> dict[str, str]:
    """Returns AutoModel's class of each model type."""
    return _first(modeling_auto.MODEL_MAPPING_NAMES)


def usual_classes() -> dict[str, str]:
    """Returns the class that writes text, of each model type that has one."""
    return (
        _first(modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
        | _first(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        | _first(modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    )


def _first(names: Mapping[str, Any]) -> dict[str, str]:
    return {model_type: name if isinstance(name, str) else name[0] for model_type, name in names.items()}


def class_types() -> dict[str, str]:
    """Returns the classes of models that an auto class can make, each with a model type that it is for."""
    types: dict[str, str] = {}
    for mapping in sorted(vars(modeling_auto)):
        if mapping.startswith("MODEL_") and mapping.endswith("MAPPING_NAMES"):
            for model_type, classes in getattr(modeling_auto, mapping).items():
                for name in [classes] if isinstance(classes, str) else classes:
                    types.setdefault(name, model_type)
    return dict(sorted(types.items()))


def class_entry(name: str, model_type: str) -> dict[str, Any] | None:
    """Returns what the table holds of a class; None where this machine lacks a library that the class needs."""
    try:
        model_class = getattr(transformers, name)
        entry: dict[str, Any] = {"prefix": model_class.base_model_prefix, "type": model_type}
    except (ImportError, AttributeError):
        return None
    try:
        return entry | entry_of(made(model_class))
    except Exception:  # noqa: BLE001 whatever a class raises, the table says that it could not be made
        return entry | {"unmade": True}


def entry_of(model: PreTrainedModel) -> dict[str, Any]:
    """Returns what the table holds of a class, as far as a model of it tells."""
    found = {"submodels": list(_submodels(model)), "parameters": _parameters(model)}
    return {name: value for name, value in found.items() if value}


def _parameters(model: PreTrainedModel) -> list[str]:
    """Returns the layers that are no Linear though they have a matrix, as routers do, by the end of their path."""
    return sorted(
        {
            ".".join(path.split(".")[-2:])
            for path, module in model.named_modules()
            if path.endswith((".gate", ".router"))
            and not isinstance(module, torch.nn.Linear)
            and isinstance(weight := module._parameters.get("weight"), torch.nn.Parameter)
            and weight.ndim == 2
        }
    )


def made(model_class: type[PreTrainedModel]) -> PreTrainedModel:
    """Returns a model without weights, of few layers where that can be."""
    with torch.device("meta"), warnings.catch_warnings(), patch.object(AutoModel, "from_config", _tower):
        warnings.simplefilter("ignore")
        config_class: Any = model_class.config_class
        for change in (_shrink, _with_small_vision):
            config = config_class()
            with suppress(Exception):
                change(config)
                return model_class(config)
        return model_class(config_class())


def _shrink(config: PretrainedConfig) -> None:
    for name, value in list(vars(config).items()):
        if isinstance(value, PretrainedConfig):
            _shrink(value)
        elif name in _DEPTHS and isinstance(value, int) and value > _LAYERS:
            setattr(config, name, _LAYERS)
        elif name == "first_k_dense_replace" and isinstance(value, int) and value >= _LAYERS:
            setattr(config, name, 1)
        elif name == "layer_types" and isinstance(value, list):
            config.layer_types = value[:_LAYERS]
    for dotted, value in _FIXES.get(config.model_type, {}).items():
        *objects, name = dotted.split(".")
        setattr(reduce(getattr, objects, config), name, value)


class TimmWrapperModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Stands for a vision tower of timm, which is not installed here."""

    config_class = TimmWrapperConfig

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)


def _tower(config: PretrainedConfig, **kwargs: Any) -> PreTrainedModel:
    try:
        tower: PreTrainedModel = _from_config(config, **kwargs)
    except ImportError:
        return TimmWrapperModel(config)
    return tower


_from_config: Any = AutoModel.from_config


def _with_small_vision(config: PretrainedConfig) -> None:
    """Puts another vision tower where the config's own cannot be made: its class is told by its model type."""
    if isinstance(getattr(config, "vision_config", None), PretrainedConfig):
        config.vision_config = SiglipVisionConfig(**_SMALL_VISION)


def _submodels(model: PreTrainedModel) -> Iterator[dict[str, str]]:
    """Yields the submodels that the table knows, or whose class config.json chooses."""
    known: Any = get_checkpoint_conversion_mapping
    objects = dict(_config_objects(model.config))
    for path, module in model.named_modules():
        if not path or not isinstance(module, PreTrainedModel):
            continue
        entry = {"path": path, "class": type(module).__name__, "type": module.config.model_type or ""}
        config = next((name for name, content in objects.items() if content is module.config), None)
        if config is None:
            same = [name for name, content in objects.items() if content.model_type == module.config.model_type]
            config = same[0] if len(same) == 1 else None
        if config is not None:
            entry["config"] = config
        if config is not None or known(entry["class"]) or known(entry["type"]):
            yield entry


def _config_objects(config: PretrainedConfig, path: str = "") -> Iterator[tuple[str, PretrainedConfig]]:
    for name in config.sub_configs:
        content = getattr(config, name, None)
        if isinstance(content, PretrainedConfig):
            yield f"{path}{name}", content
            yield from _config_objects(content, f"{path}{name}.")


if __name__ == "__main__":
    write()
