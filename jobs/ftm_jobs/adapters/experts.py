"""LoRA on the experts of a mixture, which PEFT adapts as parameters: all experts' A and B in two matrices.

In memory transformers 5 holds the experts of a layer in two tensors, gate_up_proj and down_proj; on disk most models
have one tensor for each expert and projection. PEFT names the adapters of the two by nesting: `experts.base_layer` is
the first that was targeted, `experts` the last (peft/tuners/lora/layer.py, ParamWrapper). Pure.
"""

import re
from collections.abc import Iterator, Mapping

from ftm_jobs.adapters.base_names import Names
from ftm_jobs.adapters.changes import Expert, Form, LowRank
from ftm_jobs.adapters.mismatch import Target, adapter_mismatch, shape_of, unsupported_adapter
from ftm_jobs.adapters.tensors import Layer
from ftm_jobs.checkpoint.adapter_config import AdapterConfig

FUSED_IN_MEMORY = {
    *("mixtral", "minimax", "minimax_m2", "phimoe", "afmoe", "cohere2_moe", "deepseek_v2", "deepseek_v3"),
    *("deepseek_v32", "dots1", "ernie4_5_moe", "exaone_moe", "flex_olmo", "glm4_moe", "glm4_moe_lite", "glm4v_moe"),
    *("glm_moe_dsa", "hunyuan_v1_moe", "longcat_flash", "mellum", "olmoe", "qwen2_moe", "qwen3_moe", "qwen3_next"),
    *("qwen3_omni_moe", "qwen3_omni_moe_thinker", "solar_open"),
}
"""Model types whose experts are one tensor each on disk (transformers/conversion_mapping.py)."""
_STORED_BY_INPUT = {"aria", "gpt_oss", "openai_privacy_filter", "qwen3_vl_moe"}
"""Model types whose fused experts are (experts, in, out) on disk, which square ones do not tell by their shape."""
_PARAMETERS = ("gate_up_proj", "down_proj")
"""In the order in which a module registers them, and so in which PEFT nests them."""
_PARTS = {"gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")), "down_proj": (("down_proj",), ("w2",))}
_NESTED = ".base_layer"
_UNFUSED = re.compile(r".*\.experts\.\d+\.[^.]+")


def is_unfused_expert(model_type: str, module: str) -> bool:
    return model_type in FUSED_IN_MEMORY and _UNFUSED.fullmatch(module) is not None


def is_router(model_type: str, module: str) -> bool:
    return model_type in FUSED_IN_MEMORY and module.endswith((".mlp.gate", ".block_sparse_moe.gate"))


def expert_updates(
    names: Names,
    targets: Mapping[str, Target],
    model_type: str,
    file: str,
    config: AdapterConfig,
    number: int,
    scale: float,
    layer: Layer,
) -> Iterator[tuple[str, LowRank]]:
    """The base's tensors that `layer` adapts, and how. Raises InvalidInput naming file and tensor."""
    depth = layer.module.count(_NESTED)
    module = layer.module.replace(_NESTED, "")
    targeted = [
        parameter
        for parameter in _PARAMETERS
        if any(f".{module}.{parameter}".endswith(f".{name}") for name in config.target_parameters)
    ]
    if depth >= len(targeted):
        raise adapter_mismatch(
            f'{file} tensor "{layer.a.name}" adapts a parameter of "{module}" that is none of '
            f"{', '.join(_PARAMETERS)} named in target_parameters: use the base that the adapter was trained on"
        )
    parameter = targeted[len(targeted) - 1 - depth]
    if layer.magnitude or layer.bias or layer.embedding:
        raise unsupported_adapter(
            f'{file} tensor "{layer.a.name}" comes with a DoRA magnitude or a bias, which PEFT has for no parameter: '
            "save the adapter again"
        )
    key = f"{module}.{parameter}"
    rank, scaling = config.rank_of(key), config.scaling_of(key, scale)

    def change(form: Form, expert: Expert) -> LowRank:
        return LowRank(number, key, form, layer.a, layer.b, rank, scaling, rounded=True, expert=expert)

    fused = names.find(key)
    found = _fused(targets[fused], model_type, file, layer, rank) if fused else None
    if found:
        yield found[0], change(*found[1:])
        return
    parts = _unfused(names, targets, module, parameter)
    if not parts:
        raise adapter_mismatch(
            f'{file} tensor "{layer.a.name}" adapts "{key}", which the base does not have: '
            "use the base that the adapter was trained on"
        )
    count = len(parts)
    for index, tensors in enumerate(parts):
        first = 0
        for target in tensors:
            rows, columns = target.tensor.shape
            _check(file, layer, rank, count, sum(part.tensor.shape[0] for part in tensors), columns, target)
            yield target.tensor.name, change(Form.LINEAR, Expert(count, index, first))
            first += rows


def _fused(target: Target, model_type: str, file: str, layer: Layer, rank: int) -> tuple[str, Form, Expert]:
    if len(target.tensor.shape) != 3:
        raise unsupported_adapter(
            f'{file} tensor "{layer.a.name}" adapts "{target.tensor.name}" of shape {shape_of(target.tensor)} in '
            f"{target.file}: only experts with three dimensions are supported"
        )
    count, first, second = target.tensor.shape
    by_input = model_type in _STORED_BY_INPUT if first == second else layer.a.shape[-1] == first
    outputs, inputs = (second, first) if by_input else (first, second)
    _check(file, layer, rank, count, outputs, inputs, target)
    return target.tensor.name, Form.TRANSPOSED if by_input else Form.LINEAR, Expert(count, None)


def _unfused(names: Names, targets: Mapping[str, Target], module: str, parameter: str) -> list[list[Target]]:
    """Of each expert, the tensors that make up `parameter`."""
    for spelling in _PARTS[parameter]:
        experts: list[list[Target]] = []
        while all(names.find(f"{module}.{len(experts)}.{part}.weight") for part in spelling):
            found = [names.find(f"{module}.{len(experts)}.{part}.weight") for part in spelling]
            experts.append([targets[name] for name in found if name])
        if experts:
            return experts
    return []


def _check(file: str, layer: Layer, rank: int, count: int, outputs: int, inputs: int, target: Target) -> None:
    for tensor, wanted in ((layer.a, (count * rank, inputs)), (layer.b, (outputs, count * rank))):
        if tensor.shape != wanted:
            raise adapter_mismatch(
                f'{file} tensor "{tensor.name}" of shape {shape_of(tensor)} needs ({wanted[0]}, {wanted[1]}) for '
                f'{count} experts of rank {rank} like "{target.tensor.name}" of shape {shape_of(target.tensor)} in '
                f"{target.file}: use the base that the adapter was trained on"
            )
