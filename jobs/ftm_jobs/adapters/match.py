"""Does an adapter fit a base? Each of its tensors must mean one of the base's, with agreeing shapes.

Pure: names, dtypes and shapes come in, from headers; out comes what each tensor of the base has done to it.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ftm_jobs.adapters.base_names import Names
from ftm_jobs.adapters.changes import AddBias, Form, LowRank, Replace, ReplaceRows
from ftm_jobs.adapters.experts import expert_updates, is_router, is_unfused_expert
from ftm_jobs.adapters.mismatch import Target, adapter_mismatch, check_pair, check_shape, shape_of, unsupported_adapter
from ftm_jobs.adapters.tensors import AdapterTensors, Layer, sort_tensors
from ftm_jobs.checkpoint.adapter_config import AdapterConfig
from ftm_jobs.checkpoint.configs import CONV1D_MODEL_TYPES
from ftm_jobs.checkpoint.headers import FLOATING_DTYPES, Header, Tensor
from ftm_jobs.checkpoint.output_layout import TensorChange
from ftm_jobs.errors import InvalidInput, Reason

INPUT_EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings")
OUTPUT_LAYERS = ("lm_head", "embed_out")
LARGEST_WHOLE_BYTES = 64 * 1024 * 1024
"""Of fp32: a weight that must be computed whole may not be larger, since several are in memory at once."""
_CONV1D_LAYERS = {"c_attn", "q_attn", "c_proj", "c_fc"}


@dataclass(frozen=True)
class Update:
    """What an adapter does to one tensor of the merged model."""

    weight: str
    """Its name in the base, or in the merged model where the base has none."""
    change: TensorChange
    in_module: bool = False
    """It replaces a module of its own (modules_to_save), so that it is tied to no other."""

    @property
    def low_rank(self) -> LowRank | None:
        return self.change if isinstance(self.change, LowRank) else None


@dataclass(frozen=True)
class BaseTensors:
    """What of a base matters here."""

    uri: str
    model_type: str
    tied_embeddings: bool
    headers: Sequence[Header]

    @cached_property
    def targets(self) -> dict[str, Target]:
        return {
            name: Target(self.uri, header.file, tensor)
            for header in self.headers
            for name, tensor in header.tensors.items()
        }

    @cached_property
    def names(self) -> Names:
        return Names(self.targets)

    @cached_property
    def embedding(self) -> str | None:
        """The name of the input embedding, if it is clear."""
        found = [name for name in self.targets if _layer_of(name) in INPUT_EMBEDDINGS]
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class _Adapter:
    number: int
    file: str
    config: AdapterConfig
    scale: float


def match(
    base: BaseTensors, file: str, header: Header, config: AdapterConfig, number: int = 0, scale: float = 1.0
) -> list[Update]:
    """The adapter's updates, sorted by weight. `file` is how messages name the adapter's tensors.

    Raises InvalidInput (AdapterMismatch, UnsupportedAdapter, UnsupportedBase) naming file and tensor.
    """
    adapter = _Adapter(number, file, config, scale)
    tensors = sort_tensors(file, header)
    _check_promises(adapter, tensors)
    updates = [_replacement(base, adapter, name, tensor) for name, tensor in tensors.whole.items()]
    replaced = {update.weight: update.change.tensor for update in updates if isinstance(update.change, Replace)}
    updates += [update for layer in tensors.layers for update in _layer_updates(base, adapter, layer, replaced)]
    updates += [_row_update(base, adapter, module, tensor) for module, tensor in tensors.rows.items()]
    return sorted(updates, key=lambda update: update.weight)


def _check_promises(adapter: _Adapter, tensors: AdapterTensors) -> None:
    config = adapter.config
    for field, promised, kept in (
        ("use_dora", config.dora, [layer for layer in tensors.layers if layer.magnitude]),
        ("lora_bias", config.lora_bias, [layer for layer in tensors.layers if layer.bias]),
        ("trainable_token_indices", bool(config.token_indices), tensors.rows),
        ("modules_to_save", bool(config.modules_to_save), tensors.whole),
    ):
        if promised and not kept:
            raise adapter_mismatch(
                f"{adapter.file} holds none of the tensors that {field} in adapter_config.json promises: "
                "upload the two files of one training"
            )


def _layer_updates(
    base: BaseTensors, adapter: _Adapter, layer: Layer, replaced: Mapping[str, Tensor]
) -> Iterator[Update]:
    module, config = layer.module, adapter.config
    name = f"{module}.weight"
    found = base.names.find(name)
    if found is None and config.target_parameters:
        yield from _expert_updates(base, adapter, layer)
        return
    if found is None and _layer_of(name) in OUTPUT_LAYERS and base.tied_embeddings:
        found = base.embedding
    if found is None:
        raise adapter_mismatch(
            f'{adapter.file} tensor "{layer.a.name}" adapts "{name}", which {base.uri} does not have: '
            "use the base that the adapter was trained on"
        )
    target = _floating(base.targets[found])
    if found in replaced:
        target = dataclasses.replace(target, tensor=dataclasses.replace(target.tensor, shape=replaced[found].shape))
    change = _low_rank(base, adapter, layer, target)
    yield Update(found, change)
    if layer.bias:
        yield Update(*_bias_update(base, adapter, layer, found, change))


def _low_rank(base: BaseTensors, adapter: _Adapter, layer: Layer, target: Target) -> LowRank:
    module, config = layer.module, adapter.config
    conv1d = base.model_type in CONV1D_MODEL_TYPES and module.rpartition(".")[2] in _CONV1D_LAYERS
    form = Form.TRANSPOSED if conv1d or layer.embedding else Form.LINEAR
    if any(len(tensor.shape) != 2 for tensor in (target.tensor, layer.a, layer.b)):
        raise unsupported_adapter(
            f'{adapter.file} tensor "{layer.a.name}" of shape {shape_of(layer.a)} adapts "{target.tensor.name}" of '
            f"shape {shape_of(target.tensor)} in {target.file}: only Linear, Conv1D and Embedding layers, with two "
            "dimensions, are supported"
        )
    rank = config.rank_of(module)
    check_pair(target, adapter.file, layer.a, layer.b, transposed=form is Form.TRANSPOSED)
    if layer.a.shape[0] != rank:
        raise adapter_mismatch(
            f'{adapter.file} tensor "{layer.a.name}" has rank {layer.a.shape[0]} but adapter_config.json says {rank}: '
            "upload the two files of one training"
        )
    _check_magnitude(adapter, layer, target, form)
    return LowRank(
        adapter=adapter.number,
        module=module,
        form=form,
        a=layer.a,
        b=layer.b,
        rank=rank,
        scaling=config.scaling_of(module, adapter.scale),
        rounded=layer.embedding or _is_parameter(base, config, module),
        magnitude=layer.magnitude,
    )


def _is_parameter(base: BaseTensors, config: AdapterConfig, module: str) -> bool:
    """Whether PEFT adapts the weight as a parameter, or with transformers 5 would."""
    name = f"{module}.weight"
    named = any(name == target or name.endswith(f".{target}") for target in config.target_parameters)
    return named or is_router(base.model_type, module) or is_unfused_expert(base.model_type, module)


def _check_magnitude(adapter: _Adapter, layer: Layer, target: Target, form: Form) -> None:
    if layer.magnitude is None:
        if adapter.config.dora:
            raise adapter_mismatch(
                f'{adapter.file} has tensor "{layer.a.name}" but no lora_magnitude_vector beside it, though use_dora '
                "is set: upload the two files of one training"
            )
        return
    if not adapter.config.dora:
        raise adapter_mismatch(
            f'{adapter.file} has tensor "{layer.magnitude.name}" but use_dora is not set in adapter_config.json: '
            "upload the two files of one training"
        )
    outputs = layer.b.shape[0]
    check_shape(target, adapter.file, layer.magnitude, (outputs,))
    if form is Form.TRANSPOSED and 4 * target.tensor.elements > LARGEST_WHOLE_BYTES:
        raise unsupported_adapter(
            f'{adapter.file} tensor "{layer.magnitude.name}" is a DoRA magnitude of "{target.tensor.name}", which is '
            f"stored by input and has {target.tensor.elements:,} numbers: its norms need all of it in memory; train "
            "the adapter without this layer, or without use_dora"
        )


def _bias_update(
    base: BaseTensors, adapter: _Adapter, layer: Layer, weight: str, change: LowRank
) -> tuple[str, AddBias]:
    assert layer.bias
    if not adapter.config.lora_bias:
        raise adapter_mismatch(
            f'{adapter.file} has tensor "{layer.bias.name}" but lora_bias is not set in adapter_config.json: '
            "upload the two files of one training"
        )
    name = f"{weight.removesuffix('.weight')}.bias"
    if name not in base.targets:
        raise unsupported_adapter(
            f'{adapter.file} tensor "{layer.bias.name}" adds to the bias "{name}", which {base.uri} does not have '
            "(PEFT cannot merge it either): train the adapter with lora_bias false"
        )
    target = _floating(base.targets[name])
    check_shape(target, adapter.file, layer.bias, target.tensor.shape)
    return name, AddBias(adapter.number, layer.bias, change.scaling)


def _replacement(base: BaseTensors, adapter: _Adapter, name: str, tensor: Tensor) -> Update:
    module = name.rpartition(".")[0]
    in_module = any(f".{saved}" in f".{module}" for saved in adapter.config.modules_to_save) and not (
        adapter.config.ensure_weight_tying and base.tied_embeddings
    )
    found = base.names.find(name)
    if found is None and _layer_of(name) in OUTPUT_LAYERS and name.endswith(".weight") and base.tied_embeddings:
        found = new_output_layer(base, name) if in_module else base.embedding
    if found is None:
        raise adapter_mismatch(
            f'{adapter.file} tensor "{tensor.name}" replaces "{name}", which {base.uri} does not have: '
            "use the base that the adapter was trained on"
        )
    resizable = _layer_of(name) in (*INPUT_EMBEDDINGS, *OUTPUT_LAYERS)
    like = base.targets.get(found) or (base.targets[base.embedding] if base.embedding else None)
    if like is not None:
        shape = like.tensor.shape
        check_shape(
            _floating(like), adapter.file, tensor, (tensor.shape[:1] + shape[1:]) if resizable and shape else shape
        )
    return Update(found, Replace(adapter.number, tensor), in_module)


def new_output_layer(base: BaseTensors, name: str) -> str:
    """What a tied output layer is called once it has weights of its own."""
    embedding = base.embedding or ""
    return f"language_model.{name}" if embedding.startswith("language_model.model.") else name


def _row_update(base: BaseTensors, adapter: _Adapter, module: str, tensor: Tensor) -> Update:
    found = base.names.find(f"{module}.weight")
    if found is None and _layer_of(f"{module}.weight") in OUTPUT_LAYERS and base.tied_embeddings:
        found = base.embedding
    if found is None:
        raise adapter_mismatch(
            f'{adapter.file} tensor "{tensor.name}" holds rows of "{module}.weight", which {base.uri} does not have: '
            "use the base that the adapter was trained on"
        )
    named = adapter.config.token_indices
    indices = next((rows for name, rows in named.items() if name and f".{module}".endswith(f".{name}")), named.get(""))
    if indices is None:
        raise adapter_mismatch(
            f'{adapter.file} tensor "{tensor.name}" holds rows of {module}, which trainable_token_indices in '
            "adapter_config.json does not name: upload the two files of one training"
        )
    target = _floating(base.targets[found])
    check_shape(target, adapter.file, tensor, (len(indices), *target.tensor.shape[1:]))
    return Update(found, ReplaceRows(adapter.number, tensor, indices))


def _expert_updates(base: BaseTensors, adapter: _Adapter, layer: Layer) -> Iterator[Update]:
    for name, change in expert_updates(
        base.names, base.targets, base.model_type, adapter.file, adapter.config, adapter.number, adapter.scale, layer
    ):
        _floating(base.targets[name])
        yield Update(name, change)


def _floating(target: Target) -> Target:
    if target.tensor.dtype not in FLOATING_DTYPES:
        raise InvalidInput(
            Reason.UNSUPPORTED_BASE,
            f'{target.file} tensor "{target.tensor.name}" is {target.tensor.dtype}: '
            f"name a base in {', '.join(FLOATING_DTYPES)}",
        )
    return target


def _layer_of(name: str) -> str:
    """The layer that a weight belongs to: lm_head of model.lm_head.weight."""
    return name.rpartition(".")[0].rpartition(".")[2]
