"""Pads widths: of the vocabulary as vLLM does, and of the MLP as an AWQ Job does so that each rank holds whole groups.

vLLM pads the rows of the embedding and of the output layer to a multiple of VOCABULARY_PADDING. Zero rows of gate and
up with zero columns of down change no output: the Job adds them to the language model where that adds at most
PADDING_LIMIT to every width, and so the planner sizes what will be, not what the base is:

    hidden 8192, MLP 29568, groups of 128 over 8 ranks: 29568 / 8 = 3696, no multiple of 128 -> 29696 = 29 · 8 · 128
"""

from collections.abc import Mapping
from dataclasses import replace

from ftm_jobs.contract.facts import TensorGroup, of_encoder
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.quantization import Scheme
from ftm_operator.planning.model.tensor_names import module_of

PADDING_LIMIT = 1 / 16
VOCABULARY_PADDING = 64
"""Source: layers/vocab_parallel_embedding.py of vLLM."""
_ROWS = {"gate_proj", "up_proj", "w1", "w3"}
_COLUMNS = {"down_proj", "w2"}
_HALVES = {"gate_up_proj"}


def vocabulary_rows(vocabulary: int) -> int:
    """Returns the rows that vLLM's embedding and output layer have for so many tokens."""
    return -(-vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING


def padded_widths(model: Architecture, scheme: Scheme, ranks: int) -> dict[int, int]:
    """Returns new widths by old ones; none where nothing is padded, or where it would add too much."""
    if not scheme.in_the_making:
        return {}
    experts = model.experts
    widths = {model.mlp_width, *((experts.width, experts.shared_width) if experts and not experts.whole else ())} - {
        None,
        0,
    }
    unit = scheme.group * ranks
    new_widths = {width: -(-width // unit) * unit for width in widths if width and width % unit}
    return new_widths if all(new <= width * (1 + PADDING_LIMIT) for width, new in new_widths.items()) else {}


def padded(model: Architecture, scheme: Scheme, ranks: int) -> Architecture:
    """Returns the model as the Job leaves it for so many ranks."""
    widths = padded_widths(model, scheme, ranks)
    if not widths:
        return model
    experts = model.experts and replace(
        model.experts,
        width=widths.get(model.experts.width, model.experts.width),
        shared_width=widths.get(model.experts.shared_width, model.experts.shared_width),
    )
    return replace(
        model,
        mlp_width=model.mlp_width and widths.get(model.mlp_width, model.mlp_width),
        experts=experts,
        tensors=tuple(_padded_tensors(group, widths) for group in model.tensors),
    )


def _padded_tensors(group: TensorGroup, widths: Mapping[int, int]) -> TensorGroup:
    module, (*outer, last) = module_of(group.name), group.shape or (0,)
    if of_encoder(group.name):
        return group
    if module in _COLUMNS and outer:
        return group.model_copy(update={"shape": (*outer, widths.get(last, last))})
    if module in _ROWS:
        first, *inner = group.shape
        return group.model_copy(update={"shape": (widths.get(first, first), *inner)})
    if module in _HALVES:
        first, *inner = group.shape
        return group.model_copy(update={"shape": (2 * widths.get(first // 2, first // 2), *inner)})
    return group
