"""Says whether AWQ can hold a model, with which groups and by which engine. Pure.

Along a layer's input, each group of weights shares a scale and a zero point, and no group may span two ranks
(quantization/auto_awq.py of vLLM, AutoAWQLinearMethod.create_weights): the residual width must divide by the group
size, and so must each rank's part of the attention's output. The MLP's width need not: the Job pads it with zeros
where that costs little, which changes no output.
"""

from dataclasses import dataclass
from typing import Literal

from ftm_jobs.contract.awq import AUTOAWQ_MODEL_TYPES
from ftm_jobs.contract.facts import BaseFacts, holds_experts
from ftm_operator.api.v1alpha1 import AWQ
from ftm_operator.planning.model.architecture import Architecture, architecture
from ftm_operator.planning.model.quantization import Scheme
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.rules.tensor_parallel import are_whole_groups, attention_output_width

GROUP_SIZES = (128, 64, 32)

Quantizer = Literal["autoawq", "llm-compressor"]


@dataclass(frozen=True)
class AwqChoice:
    """AWQ as a Job is to make it."""

    group_size: int
    engine: Quantizer
    reasons: tuple[str, ...]
    ranks: int = 1
    """Ranks over which each layer is split, as its groups must allow."""

    def scheme(self, group_size: int | None = None) -> Scheme:
        """Returns how the weights will be packed, in groups of another size if one is given."""
        method: Literal["awq", "compressed-tensors"] = "awq" if self.engine == "autoawq" else "compressed-tensors"
        return Scheme(method, 4, group_size or self.group_size, zero_point=True, in_the_making=True)


def awq_choice(asked: AWQ, base: BaseFacts, tensor_parallel_size: int) -> AwqChoice | Rejection:
    """Returns the group size and the engine, or the rule that forbids them."""
    model = architecture(base)
    together = next((group.name for group in base.tensors or () if holds_experts(group.name, group.shape)), None)
    if together:
        return Rejection(
            "AWQExperts",
            f"{together} holds the matrices of all experts of a layer, which AWQ's engines do not take; "
            "write quantization.method GGUF, or None",
        )
    engine = _engine(asked, base)
    if isinstance(engine, Rejection):
        return engine
    candidates = [asked.group_size] if asked.group_size else list(GROUP_SIZES)
    objections = {size: _objection(model, size, tensor_parallel_size) for size in candidates}
    fitting = [size for size, objection in objections.items() if objection is None]
    if not fitting:
        size = candidates[-1]
        others = [group for group in GROUP_SIZES if _objection(model, group, tensor_parallel_size) is None]
        instead = f"write groupSize {others[0]}" if others else "write quantization.method GGUF, or None"
        return Rejection("AWQGroups", f"AWQ in groups of {size}: {objections[size]}; {instead}")
    chosen = fitting[0]
    why = "from spec.quantization.awq.groupSize" if asked.group_size else objections.get(candidates[0])
    groups = f"groups of {chosen}: {why or 'every width divides by it'}"
    return AwqChoice(chosen, engine[0], (groups, f"made by {engine[0]}: {engine[1]}"), tensor_parallel_size)


def _engine(asked: AWQ, base: BaseFacts) -> tuple[Quantizer, str] | Rejection:
    is_autoawq_type = base.model_type in AUTOAWQ_MODEL_TYPES
    if asked.engine == "AutoAWQ" and not is_autoawq_type:
        return Rejection(
            "AWQEngine", f'AutoAWQ does not know model_type "{base.model_type}"; write awq.engine LLMCompressor or Auto'
        )
    if asked.engine == "LLMCompressor":
        return "llm-compressor", "from spec.quantization.awq.engine"
    if asked.engine == "AutoAWQ":
        return "autoawq", "from spec.quantization.awq.engine"
    if is_autoawq_type:
        return "autoawq", f'it knows model_type "{base.model_type}"'
    return "llm-compressor", f'AutoAWQ does not know model_type "{base.model_type}"'


def _objection(model: Architecture, group_size: int, ranks: int) -> str | None:
    if model.hidden_size % group_size:
        return f"the residual width {model.hidden_size} is no multiple of {group_size}"
    attention = attention_output_width(model)
    if not are_whole_groups(attention, ranks, group_size):
        over = f" over {ranks} accelerators" if ranks > 1 else ""
        return f"the attention's output width {attention}{over} is no multiple of {group_size}"
    return None
