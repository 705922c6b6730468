"""Matches the layers that an adapter adapts by two small matrices, with their biases and magnitudes. Pure."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from ftm_jobs.adapters.adapter_tensors import AdaptedLayer, AppliedAdapter
from ftm_jobs.adapters.base_tensors import BaseTensor, BaseTensors
from ftm_jobs.adapters.changes import AddBias, Form, LowRank, Update
from ftm_jobs.adapters.experts import expert_updates
from ftm_jobs.adapters.mismatch import (
    adapter_mismatch,
    check_pair,
    check_shape,
    not_found,
    shape_of,
    unsupported_adapter,
)
from ftm_jobs.checkpoint.adapter_config import AdapterConfig
from ftm_jobs.checkpoint.configs import CONV1D_MODEL_TYPES
from ftm_jobs.checkpoint.headers import Tensor

LARGEST_WHOLE_BYTES = 64 * 1024 * 1024
"""Bytes in fp32 of the largest weight that is computed whole: several of them are in memory at once."""
_CONV1D_LAYERS = {"c_attn", "q_attn", "c_proj", "c_fc"}


def layer_updates(
    base: BaseTensors,
    adapter: AppliedAdapter,
    layer: AdaptedLayer,
    replaced: Mapping[str, Tensor],
    others: Sequence[AdaptedLayer],
) -> Iterator[Update]:
    """Yields what an adapted layer does to the base.

    `replaced` are the adapter's tensors that replace the base's, `others` all its layers.
    """
    name = f"{layer.module}.weight"
    if adapter.config.target_parameters and base.names.find(name) is None:
        yield from expert_updates(base, adapter, layer, others)
        return
    weight = base.find(name)
    if weight is None:
        raise not_found(base, adapter.file, f'tensor "{layer.a.name}" adapts', name)
    target = base.floating(weight)
    if weight in replaced:
        target = dataclasses.replace(target, tensor=dataclasses.replace(target.tensor, shape=replaced[weight].shape))
    change = _low_rank(base, adapter, layer, target)
    yield Update(weight, change)
    if layer.bias:
        yield _bias_update(base, adapter, layer.bias, weight, change.scaling)


def _low_rank(base: BaseTensors, adapter: AppliedAdapter, layer: AdaptedLayer, target: BaseTensor) -> LowRank:
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
        rounded=layer.embedding or config.mica or _is_parameter(base, config, module, target.tensor.name),
        magnitude=layer.magnitude,
    )


def _is_parameter(base: BaseTensors, config: AdapterConfig, module: str, weight: str) -> bool:
    """Returns whether PEFT adapts the weight as a parameter, or with transformers 5 would."""
    name = f"{module}.weight"
    named = any(name == target or name.endswith(f".{target}") for target in config.target_parameters)
    return named or base.names.is_parameter(weight)


def _check_magnitude(adapter: AppliedAdapter, layer: AdaptedLayer, target: BaseTensor, form: Form) -> None:
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


def _bias_update(base: BaseTensors, adapter: AppliedAdapter, bias: Tensor, weight: str, scaling: float) -> Update:
    if not adapter.config.lora_bias:
        raise adapter_mismatch(
            f'{adapter.file} has tensor "{bias.name}" but lora_bias is not set in adapter_config.json: '
            "upload the two files of one training"
        )
    name = f"{weight.removesuffix('.weight')}.bias"
    if name not in base.by_name:
        raise unsupported_adapter(
            f'{adapter.file} tensor "{bias.name}" adds to the bias "{name}", which {base.uri} does not have '
            "(PEFT cannot merge it either): train the adapter with lora_bias false"
        )
    target = base.floating(name)
    check_shape(target, adapter.file, bias, target.tensor.shape)
    return Update(name, AddBias(adapter.number, bias, scaling))
