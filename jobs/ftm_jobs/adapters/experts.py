"""Matches LoRA on the experts of a mixture, which PEFT adapts as parameters: all experts' A and B in two matrices.

In memory transformers 5 holds the experts of a layer in two tensors, gate_up_proj (or up_proj) and down_proj; on disk
most models have one tensor for each expert and projection. PEFT names the adapters of the two by nesting:
`experts.base_layer` is the first that was targeted, `experts` the last (peft/tuners/lora/layer.py, ParamWrapper). Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftm_jobs.adapters.adapter_tensors import AdaptedLayer, AppliedAdapter
from ftm_jobs.adapters.base_tensors import BaseTensor, BaseTensors
from ftm_jobs.adapters.changes import Expert, Form, LowRank, Update
from ftm_jobs.adapters.mismatch import adapter_mismatch, not_found, shape_of, unsupported_adapter
from ftm_jobs.transformers_tables.transforms import Stored

_STORED_BY_INPUT = {"aria", "gpt_oss", "openai_privacy_filter", "qwen3_vl_moe"}
"""Model types whose fused experts are (experts, in, out) on disk, which square ones do not tell by their shape."""
_PARAMETERS = ("gate_up_proj", "up_proj", "down_proj")
"""In the order in which a module registers them, and so in which PEFT nests them."""
_NESTED = ".base_layer"


@dataclass(frozen=True)
class _AdaptedParameter:
    """A parameter of all experts of one module, and the adapter's layer that adapts it."""

    adapter: AppliedAdapter
    layer: AdaptedLayer
    module: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def rank(self) -> int:
        return self.adapter.config.rank_of(self.key)

    def update(self, target: BaseTensor, form: Form, expert: Expert) -> Update:
        adapter, layer = self.adapter, self.layer
        scaling = adapter.config.scaling_of(self.key, adapter.scale)
        change = LowRank(
            adapter.number, self.key, form, layer.a, layer.b, self.rank, scaling, rounded=True, expert=expert
        )
        return Update(target.tensor.name, change)

    def check(self, target: BaseTensor, count: int, outputs: int, inputs: int) -> None:
        """Checks that A and B are those of `count` experts with so many outputs and inputs, as `target` is of one."""
        a, b, rank = self.layer.a, self.layer.b, self.rank
        for tensor, wanted in ((a, (count * rank, inputs)), (b, (outputs, count * rank))):
            if tensor.shape != wanted:
                raise adapter_mismatch(
                    f'{self.adapter.file} tensor "{tensor.name}" of shape {shape_of(tensor)} needs '
                    f"({wanted[0]}, {wanted[1]}) for {count} experts of rank {rank} like "
                    f'"{target.tensor.name}" of shape {shape_of(target.tensor)} in {target.file}: '
                    "use the base that the adapter was trained on"
                )


def expert_updates(base: BaseTensors, adapter: AppliedAdapter, layer: AdaptedLayer) -> Iterator[Update]:
    """Yields what `layer` does to the base's tensors. Raises InvalidInput naming file and tensor."""
    adapted = _adapted_parameter(base, adapter, layer)
    stored = base.names.stored(adapted.key)
    if len(stored) == 1 and (fused := stored[0].stacked_experts):
        yield _fused_update(base, adapted, fused)
        return
    experts = _unfused(base, stored)
    if not experts:
        raise not_found(base, adapter.file, f'tensor "{layer.a.name}" adapts', adapted.key)
    for index, parts in enumerate(experts):
        outputs = sum(part.tensor.shape[0] for part in parts)
        first = 0
        for part in parts:
            rows, columns = part.tensor.shape
            adapted.check(part, len(experts), outputs, columns)
            base.floating(part.tensor.name)
            yield adapted.update(part, Form.LINEAR, Expert(len(experts), index, first))
            first += rows


def _adapted_parameter(base: BaseTensors, adapter: AppliedAdapter, layer: AdaptedLayer) -> _AdaptedParameter:
    """Returns the parameter that `layer` adapts, which PEFT's nesting tells."""
    depth = layer.module.count(_NESTED)
    module = layer.module.replace(_NESTED, "")
    targeted = [
        parameter
        for parameter in _PARAMETERS
        if any(f".{module}.{parameter}".endswith(f".{name}") for name in adapter.config.target_parameters)
    ]
    targeted = [parameter for parameter in targeted if base.names.stored(f"{module}.{parameter}")] or targeted
    if depth >= len(targeted):
        raise adapter_mismatch(
            f'{adapter.file} tensor "{layer.a.name}" adapts a parameter of "{module}" that is none of '
            f"{', '.join(_PARAMETERS)} named in target_parameters: use the base that the adapter was trained on"
        )
    if layer.magnitude or layer.bias or layer.embedding:
        raise unsupported_adapter(
            f'{adapter.file} tensor "{layer.a.name}" comes with a DoRA magnitude or a bias, which PEFT has for no '
            "parameter: save the adapter again"
        )
    return _AdaptedParameter(adapter, layer, module, targeted[len(targeted) - 1 - depth])


def _fused_update(base: BaseTensors, adapted: _AdaptedParameter, name: str) -> Update:
    """Returns the update of one tensor that holds all experts."""
    target, a = base.by_name[name], adapted.layer.a
    if len(target.tensor.shape) != 3:
        raise unsupported_adapter(
            f'{adapted.adapter.file} tensor "{a.name}" adapts "{target.tensor.name}" of shape '
            f"{shape_of(target.tensor)} in {target.file}: only experts with three dimensions are supported"
        )
    count, first, second = target.tensor.shape
    by_input = base.model_type in _STORED_BY_INPUT if first == second else a.shape[-1] == first
    outputs, inputs = (second, first) if by_input else (first, second)
    adapted.check(target, count, outputs, inputs)
    base.floating(name)
    return adapted.update(target, Form.TRANSPOSED if by_input else Form.LINEAR, Expert(count, None))


def _unfused(base: BaseTensors, stored: Sequence[Stored]) -> list[tuple[BaseTensor, ...]]:
    """Returns, for each expert, the tensors that make up a parameter; empty where it is not made of them."""
    projections = stored[0].merged_experts if len(stored) == 1 else ()
    if len(set(map(len, projections))) != 1:
        return []
    return [tuple(base.by_name[name] for name in expert) for expert in zip(*projections, strict=True)]
