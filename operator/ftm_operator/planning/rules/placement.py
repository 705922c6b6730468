"""Says which layouts vLLM, or the hardware, accepts for a model on a kind of GPU.

Each rule is one check, named by what fails, that returns None or a Rejection; its docstring names the check's file in
vLLM. The rules of the tensor-parallel size alone are in tensor_parallel.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.quantization import MINIMUM_CAPABILITY, Scheme
from ftm_operator.planning.rules.layout import Layout
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.rules.tensor_parallel import first_rejection, split_of

BFLOAT16_CAPABILITY = (8, 0)
NOT_IN_FLOAT16 = {"gemma2", "gemma3", "gemma3_text", "glm4"}
"""Families that overflow. Source: config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS."""


@dataclass(frozen=True)
class Candidate:
    """A model in a layout on a kind of GPU."""

    model: Architecture
    layout: Layout
    accelerator: AcceleratorClass
    dtype: str
    scheme: Scheme


def compute_capability(candidate: Candidate) -> Rejection | None:
    """bfloat16 from 8.0, each quantization from its own. Source: platforms/cuda.py, check_if_supports_dtype."""
    has = candidate.accelerator.capability
    if has is None:
        return None
    if candidate.dtype == "bfloat16" and has < BFLOAT16_CAPABILITY:
        return Rejection(
            "ComputeCapability",
            f"bfloat16 needs compute capability 8.0, and this GPU has {_dotted(has)}; "
            "set spec.serving.dtype to float16",
        )
    needed = MINIMUM_CAPABILITY.get(candidate.scheme.method)
    if needed and has < needed:
        return Rejection(
            "ComputeCapability",
            f"{candidate.scheme.label.partition(',')[0]} needs compute capability {_dotted(needed)}, and this "
            f"GPU has {_dotted(has)}",
        )
    return None


def supported_dtype(candidate: Candidate) -> Rejection | None:
    """Some models overflow in float16, and AWQ computes in 16 bits. Source: config/model.py, _check_valid_dtype."""
    model_type = candidate.model.model_type
    if candidate.dtype == "float16" and model_type in NOT_IN_FLOAT16:
        return Rejection(
            "Dtype", f"{model_type} is numerically unstable in float16; set spec.serving.dtype to bfloat16"
        )
    if candidate.dtype == "float32" and candidate.scheme.method == "awq":
        return Rejection("Dtype", "AWQ computes in float16 or bfloat16, not float32; set spec.serving.dtype to auto")
    return None


def gpus_per_node(candidate: Candidate) -> Rejection | None:
    """Tensor-parallel ranks and the stages beside them are on one node. Source: config/parallel.py."""
    layout, accelerator = candidate.layout, candidate.accelerator
    inside = layout.gpus // layout.nodes
    if inside > accelerator.per_node:
        return Rejection("GPUsPerNode", f"{inside} GPUs are needed on one node, and a node has {accelerator.per_node}")
    if layout.nodes > accelerator.nodes:
        return Rejection("Nodes", f"{layout.nodes} nodes are needed, and there are {accelerator.nodes}")
    return None


def whole_gpus(candidate: Candidate) -> Rejection | None:
    """NCCL does not join parts of GPUs or shared ones."""
    gpus, accelerator = candidate.layout.gpus, candidate.accelerator
    if gpus > 1 and accelerator.partition:
        return Rejection("PartOfGPU", f"{gpus} parts of GPUs (MIG) cannot work together")
    if gpus > 1 and accelerator.shared_by > 1:
        return Rejection("SharedGPU", f"{gpus} GPUs that {accelerator.shared_by} pods share cannot work together")
    return None


def pipeline_stages(candidate: Candidate) -> Rejection | None:
    """Each stage has a layer. Source: distributed/utils.py, get_pp_indices."""
    stages, layers = candidate.layout.pipeline_parallel, candidate.model.layers
    if stages > layers:
        return Rejection("PipelineStages", f"{stages} pipeline stages are more than {layers} layers")
    return None


def tensor_parallel_size(candidate: Candidate) -> Rejection | None:
    """Each rule of tensor_parallel.py holds for the model as it is padded for these ranks."""
    return first_rejection(split_of(candidate.model, candidate.layout.tensor_parallel, candidate.scheme))


PlacementRule = Callable[[Candidate], Rejection | None]
CLASS_RULES: tuple[PlacementRule, ...] = (compute_capability, supported_dtype)
"""Rules that the kind of GPU decides, whatever the layout."""
LAYOUT_RULES: tuple[PlacementRule, ...] = (gpus_per_node, whole_gpus, pipeline_stages)
SIZE_RULES: tuple[PlacementRule, ...] = (*LAYOUT_RULES, tensor_parallel_size)
RULES = (*CLASS_RULES, *SIZE_RULES)


def first_broken(candidate: Candidate, rules: tuple[PlacementRule, ...] = RULES) -> Rejection | None:
    """Returns the first of the rules that the candidate breaks, in their order."""
    return next((rejection for rule in rules if (rejection := rule(candidate))), None)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
