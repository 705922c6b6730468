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
from ftm_jobs.adapters.expert_layout import reads_outer
from ftm_jobs.adapters.mismatch import AnotherBase, adapter_mismatch, not_found, shape_of, unsupported_adapter
from ftm_jobs.transformers_tables.transforms import Stored

_PARAMETERS = ("gate_up_proj", "up_proj", "down_proj")
"""In the order in which a module registers them, and so in which PEFT nests them."""
_NESTED = ".base_layer"


@dataclass(frozen=True)
class _Stack:
    """All experts of a parameter, on disk: each (outer, inner)."""

    outer: int
    inner: int
    experts: tuple[tuple[BaseTensor, ...], ...]
    """The tensors that each expert is made of, one below the other; empty where one tensor holds all experts."""
    fused: BaseTensor | None = None

    @property
    def count(self) -> int:
        return self.fused.tensor.shape[0] if self.fused else len(self.experts)


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

    def reads_outer(self, stack: _Stack) -> bool | None:
        """Returns whether A reads the outer dimension of each expert, by its shape; None where they are square."""
        return None if stack.outer == stack.inner else self.layer.a.shape[-1] == stack.outer

    def check(self, target: BaseTensor, count: int, outputs: int, inputs: int) -> None:
        """Checks that A and B are those of `count` experts with so many outputs and inputs, as `target` is of one."""
        a, b, rank = self.layer.a, self.layer.b, self.rank
        for tensor, wanted in ((a, (count * rank, inputs)), (b, (outputs, count * rank))):
            if tensor.shape != wanted:
                raise AnotherBase(
                    f'{self.adapter.file} tensor "{tensor.name}" of shape {shape_of(tensor)} needs '
                    f"({wanted[0]}, {wanted[1]}) for {count} experts of rank {rank} like "
                    f'"{target.tensor.name}" of shape {shape_of(target.tensor)} in {target.file}'
                )


def expert_updates(
    base: BaseTensors, adapter: AppliedAdapter, layer: AdaptedLayer, others: Sequence[AdaptedLayer]
) -> Iterator[Update]:
    """Yields what `layer` does to the base's tensors. `others` are all of the adapter's layers.

    Raises InvalidInput naming file and tensor.
    """
    adapted = _adapted_parameter(base, adapter, layer)
    stack = _stack(base, adapted)
    outer = _reads_outer(base, adapted, stack, others)
    form = Form.TRANSPOSED if outer else Form.LINEAR
    outputs, inputs = (stack.inner, stack.outer) if outer else (stack.outer, stack.inner)
    if stack.fused:
        adapted.check(stack.fused, stack.count, outputs, inputs)
        yield adapted.update(stack.fused, form, Expert(stack.count, None))
    for index, parts in enumerate(stack.experts):
        first = 0
        for part in parts:
            adapted.check(part, stack.count, outputs, inputs)
            yield adapted.update(part, form, Expert(stack.count, index, first))
            first += part.tensor.shape[0]


def _reads_outer(base: BaseTensors, adapted: _AdaptedParameter, stack: _Stack, others: Sequence[AdaptedLayer]) -> bool:
    """Returns whether A reads the outer dimension. Square experts are told by the file's others, or PEFT's version."""
    outer = adapted.reads_outer(stack)
    if outer is not None:
        return outer
    for layer in others:
        if base.names.find(f"{layer.module}.weight") is None:
            other = _adapted_parameter(base, adapted.adapter, layer)
            outer = other.reads_outer(_stack(base, other))
            if outer is not None:
                return outer
    outer = reads_outer(base.model_type, adapted.adapter)
    if outer is None:
        raise unsupported_adapter(
            f'{adapted.adapter.file} tensor "{adapted.layer.a.name}" adapts square experts, and nothing tells whether '
            "it was saved before PEFT 0.19, where A and B have changed places: set peft_version in "
            "adapter_config.json to the version that it was trained with"
        )
    return outer


def _stack(base: BaseTensors, adapted: _AdaptedParameter) -> _Stack:
    """Returns the experts that a layer adapts. Raises InvalidInput where the base does not have them."""
    file, a = adapted.adapter.file, adapted.layer.a
    stored = base.names.stored(adapted.key)
    if len(stored) == 1 and (fused := stored[0].stacked_experts):
        target = base.floating(fused)
        if len(target.tensor.shape) != 3:
            raise unsupported_adapter(
                f'{file} tensor "{a.name}" adapts "{target.tensor.name}" of shape {shape_of(target.tensor)} in '
                f"{target.file}: only experts with three dimensions are supported"
            )
        return _Stack(*target.tensor.shape[1:], (), target)
    experts = _unfused(base, stored)
    if not experts:
        raise not_found(base, file, f'tensor "{a.name}" adapts', adapted.key)
    return _Stack(sum(part.tensor.shape[0] for part in experts[0]), experts[0][0].tensor.shape[-1], tuple(experts))


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
            f"{', '.join(_PARAMETERS)} named in target_parameters: upload the two files of one training"
        )
    if layer.magnitude or layer.bias or layer.embedding:
        raise unsupported_adapter(
            f'{adapter.file} tensor "{layer.a.name}" comes with a DoRA magnitude or a bias, which PEFT has for no '
            "parameter: save the adapter again"
        )
    return _AdaptedParameter(adapter, layer, module, targeted[len(targeted) - 1 - depth])


def _unfused(base: BaseTensors, stored: Sequence[Stored]) -> list[tuple[BaseTensor, ...]]:
    """Returns, for each expert, the tensors that make up a parameter; empty where it is not made of them."""
    projections = stored[0].merged_experts if len(stored) == 1 else ()
    if len(set(map(len, projections))) != 1:
        return []
    return [tuple(base.floating(name) for name in expert) for expert in zip(*projections, strict=True)]
