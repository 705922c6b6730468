"""Quantizes by AutoAWQ 0.2.9's search over scales and clipping, block by block, with what ruins models mended.

AutoAWQ knows which layers of a block share a scale and searches for it; everything around the search is done here.

- The search starts each of its steps from a copy of the weights. AutoAWQ's own keeps a state dict that, on a CPU, is
  the live weights, so each step scales what the step before it left, and the result is noise.
- A block is read from the weight files when its turn comes, computed in fp32 (TF32 on a GPU), written and dropped, so
  memory holds one block, the activations between two blocks and the rows of the embedding, whatever the model's size.
- Clipping is searched by each group's Gram matrix of the inputs, which is the same error as AutoAWQ's in a small part
  of its time; all tokens count.
- Of a matrix that holds queries, keys and values, AutoAWQ scales the last rows against the attention's output as if
  they were values alone. With grouped heads (Phi-3-medium, Phi-4) they are keys too: there it is left out.
- An input channel that is always zero, as those that pad an MLP are, takes no part in the search.
- Weights are rounded to the scales as they are stored; the format's packing takes any multiple of 8 outputs.

config.json is translated for the transformers that AutoAWQ needs, for loading alone; nothing is downloaded.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights
from awq.models.auto import AWQ_CAUSAL_LM_MODEL_MAP
from awq.utils.module import exclude_layers_to_not_quantize, get_named_linears, get_op_name
from torch import nn

from ftm_jobs.checkpoint.output_layout import OutputTensor
from ftm_jobs.contract.awq import AUTOAWQ_MODEL_TYPES
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.quantize.awq.configs import loadable_config
from ftm_jobs.quantize.awq.engines.autoawq_search import Advance, BlockStream, StreamedQuantizer
from ftm_jobs.quantize.awq.engines.engine_run import EngineRun
from ftm_jobs.quantize.awq.engines.tensor_files import PaddedWeights, TensorWriter
from ftm_jobs.quantize.awq.layout import PACKED
from ftm_jobs.quantize.awq.settings import BITS

SAMPLES_AT_ONCE = 8
IGNORED = ".rotary_emb.inv_freq"
"""Constants that old checkpoints hold; they are copied."""


def quantize_weights(
    run: EngineRun, advance: Advance, quantizer: Callable[..., Any] = StreamedQuantizer
) -> dict[str, Any]:
    """Writes the quantized weight files, and returns the quantization_config that belongs to them.

    Raises InvalidInput (UnsupportedModel) for an architecture that AutoAWQ, or transformers beside it, does not know.
    """
    model_type = str(run.config.get("model_type"))
    weights = PaddedWeights(run.model, run.files, run.layout)
    model = empty_model(model_type, loadable_config(run.config))
    _check(model, weights)
    awq_model = AWQ_CAUSAL_LM_MODEL_MAP[model_type](model, model_type, False, model.config, None, None)
    excluded = list(getattr(awq_model, "modules_to_not_convert", None) or [])
    layers = awq_model.get_model_layers(model)
    planned = _planned(weights, model, layers, excluded, run.layout.group_size)
    with TensorWriter(run.out, planned) as files, tensor_float_32():
        inside = {f"{get_op_name(model, layers)}.{name}" for name, _ in layers.named_parameters()}
        for name in weights.names():
            if name not in inside:
                files.write({name: weights.read(name)})
        stream = BlockStream(weights, files, run.blocks, advance)
        awq_model.quantize(
            quant_config={"zero_point": True, "q_group_size": run.layout.group_size, "w_bit": BITS, "version": "GEMM"},
            apply_clip=run.settings.apply_clip,
            n_parallel_calib_samples=SAMPLES_AT_ONCE,
            quantizer_cls=partial(quantizer, stream=stream),
        )
    return {
        "quant_method": "awq",
        "version": "gemm",
        "bits": BITS,
        "group_size": run.layout.group_size,
        "zero_point": run.settings.zero_point,
        "modules_to_not_convert": excluded or None,
    }


@contextmanager
def tensor_float_32() -> Iterator[None]:
    """Lets a GPU multiply fp32 matrices in TF32, which torch leaves off: the search takes a fraction of the time."""
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, True
    try:
        yield
    finally:
        matmul.allow_tf32 = before


def empty_model(model_type: str, config: dict[str, Any]) -> Any:
    """Returns the model without weights. Raises InvalidInput (UnsupportedModel) where AutoAWQ does not know it."""
    loadable = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if model_type not in AUTOAWQ_MODEL_TYPES or model_type not in loadable or model_type not in AWQ_CAUSAL_LM_MODEL_MAP:
        raise _unknown(f'model_type "{model_type}" is not one that AutoAWQ knows')
    loaded = transformers.AutoConfig.for_model(**{**config, "use_cache": False})
    with init_empty_weights(include_buffers=False):
        causal: Any = transformers.AutoModelForCausalLM
        model = causal.from_config(loaded, trust_remote_code=False)
    model.tie_weights()
    return model.eval()


def _check(model: Any, weights: PaddedWeights) -> None:
    """Raises InvalidInput (UnsupportedModel) naming a difference where the weight files hold another model."""
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters(remove_duplicate=False)}
    for name, parameter in model.named_parameters():
        if name not in weights:
            raise _unknown(f'the weight files have no "{name}", which AutoAWQ\'s transformers expects')
        if weights.shape(name) != tuple(parameter.shape):
            raise _unknown(f'"{name}" has shape {weights.shape(name)}, not {tuple(parameter.shape)}')
    for name in weights.names():
        if name not in expected and not name.endswith(IGNORED):
            raise _unknown(f'the weight files have "{name}", which AutoAWQ\'s transformers does not know')


def _planned(
    weights: PaddedWeights, model: Any, layers: nn.ModuleList, excluded: Sequence[str], group_size: int
) -> list[OutputTensor]:
    """Lists what is written: parts of quantized layers, the blocks' other weights in fp32, the others as they are."""
    prefix = f"{get_op_name(model, layers)}."
    linears = {
        f"{prefix}{number}.{name}.weight"
        for number, block in enumerate(layers)
        for name in exclude_layers_to_not_quantize(get_named_linears(block), excluded)
    }
    inside = {f"{prefix}{name}" for name, _ in layers.named_parameters()}
    planned: list[OutputTensor] = []
    for name in weights.names():
        if name in linears:
            planned += _parts(name.removesuffix(".weight"), weights.shape(name), group_size)
        else:
            dtype = "F32" if name in inside else weights.dtype(name)
            planned.append(OutputTensor(name, dtype, weights.shape(name), None))
    return planned


def _parts(name: str, shape: tuple[int, ...], group_size: int) -> list[OutputTensor]:
    out, wide = shape
    groups = wide // group_size
    sizes = {"qweight": ("I32", (wide, out // PACKED)), "qzeros": ("I32", (groups, out // PACKED))}
    sizes["scales"] = ("F16", (groups, out))
    return [OutputTensor(f"{name}.{part}", dtype, shape, None) for part, (dtype, shape) in sizes.items()]


def _unknown(label: str) -> InvalidInput:
    return InvalidInput(Reason.UNSUPPORTED_MODEL, f"{label}: write quantization.awq.engine: LLMCompressor")
