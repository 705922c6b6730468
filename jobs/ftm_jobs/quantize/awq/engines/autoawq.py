"""AWQ by AutoAWQ 0.2.9's search over scales and clipping, block by block, with what ruins models mended.

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

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", TQDM_DISABLE="1")

import torch
import transformers
from accelerate import init_empty_weights
from torch import nn

with warnings.catch_warnings(record=True):  # that nobody maintains it
    from awq.models.auto import AWQ_CAUSAL_LM_MODEL_MAP
    from awq.quantize.quantizer import AwqQuantizer
    from awq.quantize.scale import apply_clip, apply_scale
    from awq.utils.module import exclude_layers_to_not_quantize, get_named_linears, get_op_name
    from awq.utils.utils import get_best_device

from ftm_jobs.checkpoint.output_layout import OutputTensor
from ftm_jobs.contract.awq import AUTOAWQ_MODEL_TYPES
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.quantize.awq.configs import loadable_config
from ftm_jobs.quantize.awq.engines.packing import LARGEST, SMALLEST_RANGE, quantize
from ftm_jobs.quantize.awq.engines.weight_files import PaddedWeights, WeightFiles
from ftm_jobs.quantize.awq.layout import PACKED, AwqLayout

SAMPLES_AT_ONCE = 8
GRID = 20
"""Steps of the search for scales: exponents 0, 1/20, …, 19/20 of the activations' size."""
CLIP_GRID = 20
LARGEST_SHRINK = 0.5
IGNORED = ".rotary_emb.inv_freq"
"""Constants that old checkpoints hold; they are copied."""
CLIP_ROWS = 512

Advance = Callable[[int], None]
"""Told how many bytes of the model have been quantized since the last call."""


class _Caught(Exception):
    pass


class _Catcher(nn.Module):
    """Stands in for the first block: keeps what it would have been called with."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.hidden: torch.Tensor | None = None
        self.kwargs: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)

    def forward(self, *args: Any, **kwargs: Any) -> None:
        self.hidden = args[0] if args else kwargs.pop("hidden_states")
        self.kwargs = kwargs
        raise _Caught


class StreamedQuantizer(AwqQuantizer):  # type: ignore[misc]
    """AutoAWQ's quantizer over blocks that are read, quantized and written one after the other."""

    def __init__(
        self,
        *args: Any,
        weights: PaddedWeights,
        files: WeightFiles,
        blocks: list[list[int]],
        advance: Advance,
        **kwargs: Any,
    ) -> None:
        self._weights, self._files, self._blocks, self._advance = weights, files, blocks, advance
        self._device = torch.device(get_best_device())
        super().__init__(*args, **kwargs)

    def init_quant(self, n_samples: int = 128, max_seq_len: int = 512) -> Any:  # noqa: ARG002 - AutoAWQ's signature
        """The blocks, what the first is called with, and its inputs of all samples, in fp32."""
        layers = self.awq_model.get_model_layers(self.model)
        self._fill_outside(layers)
        catcher = _Catcher(layers[0])
        layers[0] = catcher
        hidden = []
        with torch.no_grad():
            for ids in self._blocks:
                try:
                    self.model(torch.tensor([ids], device=self._device), use_cache=False)
                except _Caught:
                    assert catcher.hidden is not None
                    hidden.append(catcher.hidden.float())
        layers[0] = catcher.block
        return layers, {name: _moved(value, self._device) for name, value in catcher.kwargs.items()}, torch.cat(hidden)

    def _fill_outside(self, layers: nn.ModuleList) -> None:
        """Read what runs before the first block; what runs after the last is written as it is."""
        inside = {id(parameter) for parameter in layers.parameters()}
        embedding = self.model.get_input_embeddings()
        embedding.register_forward_hook(lambda _module, _inputs, output: output.float())
        head = self.model.get_output_embeddings()
        skipped = {id(parameter) for parameter in head.parameters()} if head is not None else set()
        for name, parameter in list(self.model.named_parameters()):
            if id(parameter) in inside or (id(parameter) in skipped and parameter is not embedding.weight):
                continue
            value = self._weights.read(name)
            value = value if parameter is embedding.weight else value.float()
            _set(self.model, name, value.to(self._device))
        for module in self.model.modules():
            for key, buffer in module.named_buffers(recurse=False):
                module.register_buffer(key, buffer.to(self._device), persistent=False)

    @torch.no_grad()
    def quantize(self) -> None:
        for block in self.modules:
            prefix = get_op_name(self.model, block)
            for name, _ in list(block.named_parameters()):
                stored = self._weights.read(f"{prefix}.{name}")
                _set(block, name, stored.to(self._device, torch.float32, copy=True))  # it is scaled in place
            linears = exclude_layers_to_not_quantize(get_named_linears(block), self.modules_to_not_convert)
            inputs = self._get_input_feat(block, linears)
            groups = self.awq_model.get_layers_for_scaling(block, inputs, self.module_kwargs)
            scales = [self._search_best_scale(block, **group) for group in groups if _cancels(block, group)]
            apply_scale(block, scales, input_feat_dict=inputs)
            block.to(self._device)  # what has been scaled was left in main memory
            if self.apply_clip:
                apply_clip(block, self._search_best_clip(block, linears, inputs))
                block.to(self._device)
            del inputs
            self._write(prefix, block, linears)
            block.to("meta")

    def _write(self, prefix: str, block: nn.Module, linears: Mapping[str, nn.Linear]) -> None:
        done = 0
        for name, parameter in block.named_parameters():
            module, _, kind = name.rpartition(".")
            done += self._weights.stored_bytes(f"{prefix}.{name}")
            if module in linears and kind == "weight":
                for part, tensor in zip(PARTS, quantize(parameter, self.group_size), strict=True):
                    self._files.write({f"{prefix}.{module}.{part}": tensor})
            else:
                self._files.write({f"{prefix}.{name}": parameter})
        self._advance(done)

    def pseudo_quantize_tensor(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What rounding leaves of weights, in groups along the last dimension, with the groups' scales and zeros."""
        groups = w.reshape(-1, self.group_size)
        low, high = torch.aminmax(groups, dim=1, keepdim=True)
        scales = (high - low).clamp_(min=SMALLEST_RANGE).div_(LARGEST)
        zeros = (low / scales).round_().neg_().clamp_(0, LARGEST)
        rounded = (groups / scales).round_().add_(zeros).clamp_(0, LARGEST).sub_(zeros).mul_(scales)
        return rounded.view(w.shape), scales.view(w.shape[0], -1), zeros.view(w.shape[0], -1)

    def _compute_best_scale(
        self,
        x: torch.Tensor,
        w_mean: torch.Tensor,
        x_mean: torch.Tensor,
        module2inspect: nn.Module,
        linears2scale: list[nn.Linear],
        fp16_output: torch.Tensor,
        kwargs: dict[str, Any] | None = None,
    ) -> torch.Tensor:
        """The scales s (in) with the smallest ||Q(W·s) (x/s) - W·x||²; every step starts from the same W."""
        originals = [linear.weight.data for linear in linears2scale]
        x_mean, w_mean = x_mean.view(-1).to(x.device), w_mean.view(-1).to(x.device)
        alive = x_mean > 0
        best, least = torch.ones_like(x_mean), float("inf")
        for step in range(GRID):
            exponent = step / GRID
            scales = (x_mean.pow(exponent) / (w_mean.pow(1 - exponent) + 1e-4)).clamp(min=1e-4)
            if alive.any():
                scales = scales / (scales[alive].max() * scales[alive].min()).sqrt()
            scales[~alive | ~torch.isfinite(scales)] = 1
            for linear, original in zip(linears2scale, originals, strict=True):
                linear.weight.data = self.pseudo_quantize_tensor(original * scales)[0] / scales
            output = self._module_forward(x, module2inspect, kwargs or {})
            loss = self._compute_loss(fp16_output, output, x.device)
            if loss < least:
                best, least = scales, loss
        for linear, original in zip(linears2scale, originals, strict=True):
            linear.weight.data = original
        if least == float("inf"):
            raise InvalidInput(
                Reason.CORRUPT_SOURCE, "a block of the model puts out no finite numbers: its weights are broken"
            )
        return best.detach().cpu()

    def _compute_best_clip(
        self, w: torch.Tensor, input_feat: torch.Tensor, n_grid: int = CLIP_GRID, max_shrink: float = LARGEST_SHRINK
    ) -> torch.Tensor:
        """The largest magnitude (out, groups, 1) to keep of each group: least mean ((Q(clipped) - w) · x)²."""
        x = input_feat.view(-1, w.shape[1] // self.group_size, self.group_size).transpose(0, 1).to(w.device)
        gram = torch.bmm(x.transpose(1, 2), x) / x.shape[1]
        return torch.cat(
            [
                self._best_clip(rows.view(rows.shape[0], -1, self.group_size), gram, n_grid, max_shrink)
                for rows in torch.split(w, CLIP_ROWS)
            ]
        )

    def _best_clip(self, w: torch.Tensor, gram: torch.Tensor, n_grid: int, max_shrink: float) -> torch.Tensor:
        largest = w.abs().amax(-1, keepdim=True)
        best, least = largest.clone(), torch.full_like(largest, torch.inf)
        for step in range(int(max_shrink * n_grid)):
            limit = largest * (1 - step / n_grid)
            off = (self.pseudo_quantize_tensor(w.clamp(-limit, limit))[0] - w).transpose(0, 1)
            error = (torch.bmm(off, gram) * off).sum(-1).t()[..., None]
            better = error < least
            best[better], least[better] = limit[better], error[better]
        return best


TOGETHER = {"qkv_proj": 3, "gate_up_proj": 2}
"""How many layers of the same width one matrix has to hold, if its last rows are to be the last of them."""


def _cancels(block: nn.Module, group: Mapping[str, Any]) -> bool:
    """Whether what divides a linear layer's outputs multiplies the inputs that are made of just those."""
    first, after = group["prev_op"], group["layers"][0]
    if not isinstance(first, nn.Linear):
        return True
    role = get_op_name(block, first).rpartition(".")[2]
    found: bool = first.out_features == TOGETHER.get(role, 1) * after.in_features
    return found


PARTS = ("qweight", "qzeros", "scales")


def run(
    config: Mapping[str, Any],
    weights: PaddedWeights,
    out: Path,
    layout: AwqLayout,
    blocks: list[list[int]],
    advance: Advance,
    *,
    quantizer: Callable[..., Any] = StreamedQuantizer,
    apply_clip: bool = True,
) -> list[str]:
    """Write the quantized weight files to `out`; returns words in the names of linear layers that are left as they are.

    Raises InvalidInput (UnsupportedModel) for an architecture that AutoAWQ, or transformers beside it, does not know.
    """
    torch.backends.cuda.matmul.allow_tf32 = True
    model_type = str(config.get("model_type"))
    model = _empty_model(model_type, loadable_config(config))
    _check(model, weights)
    awq_model = AWQ_CAUSAL_LM_MODEL_MAP[model_type](model, model_type, False, model.config, None, None)
    excluded = list(getattr(awq_model, "modules_to_not_convert", None) or [])
    layers = awq_model.get_model_layers(model)
    planned = _planned(weights, model, layers, excluded, layout.group_size)
    with WeightFiles(out, planned) as files:
        inside = {f"{get_op_name(model, layers)}.{name}" for name, _ in layers.named_parameters()}
        for name in weights.names():
            if name not in inside:
                files.write({name: weights.read(name)})
        awq_model.quantize(
            quant_config={"zero_point": True, "q_group_size": layout.group_size, "w_bit": 4, "version": "GEMM"},
            apply_clip=apply_clip,
            n_parallel_calib_samples=SAMPLES_AT_ONCE,
            quantizer_cls=partial(quantizer, weights=weights, files=files, blocks=blocks, advance=advance),
        )
    return excluded


def _empty_model(model_type: str, config: dict[str, Any]) -> Any:
    """The model without weights. Raises InvalidInput (UnsupportedModel) where AutoAWQ has no such architecture."""
    known = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if model_type not in AUTOAWQ_MODEL_TYPES or model_type not in known or model_type not in AWQ_CAUSAL_LM_MODEL_MAP:
        raise unknown(f'model_type "{model_type}" is not one that AutoAWQ knows')
    loaded = transformers.AutoConfig.for_model(**{**config, "use_cache": False})
    with init_empty_weights(include_buffers=False):
        causal: Any = transformers.AutoModelForCausalLM
        model = causal.from_config(loaded, trust_remote_code=False)
    model.tie_weights()
    return model.eval()


def _check(model: Any, weights: PaddedWeights) -> None:
    """That the weight files hold this very model. Raises InvalidInput (UnsupportedModel) naming a difference."""
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters(remove_duplicate=False)}
    for name, parameter in model.named_parameters():
        if name not in weights:
            raise unknown(f'the weight files have no "{name}", which AutoAWQ\'s transformers expects')
        if weights.shape(name) != tuple(parameter.shape):
            raise unknown(f'"{name}" has shape {weights.shape(name)}, not {tuple(parameter.shape)}')
    for name in weights.names():
        if name not in expected and not name.endswith(IGNORED):
            raise unknown(f'the weight files have "{name}", which AutoAWQ\'s transformers does not know')


def _planned(
    weights: PaddedWeights, model: Any, layers: nn.ModuleList, excluded: Sequence[str], group_size: int
) -> list[OutputTensor]:
    """What is written: the parts of quantized layers, the blocks' other weights in fp32, the others as they are."""
    prefix = f"{get_op_name(model, layers)}."
    linears = {
        f"{prefix}{number}.{name}.weight"
        for number, block in enumerate(layers)
        for name in exclude_layers_to_not_quantize(get_named_linears(block), excluded)
    }
    inside = {f"{prefix}{name}" for name, _ in layers.named_parameters()}
    found: list[OutputTensor] = []
    for name in weights.names():
        if name in linears:
            found += _parts(name.removesuffix(".weight"), weights.shape(name), group_size)
        else:
            dtype = "F32" if name in inside else weights.dtype(name)
            found.append(OutputTensor(name, dtype, weights.shape(name), None))
    return found


def _parts(name: str, shape: tuple[int, ...], group_size: int) -> list[OutputTensor]:
    out, wide = shape
    groups = wide // group_size
    sizes = {"qweight": ("I32", (wide, out // PACKED)), "qzeros": ("I32", (groups, out // PACKED))}
    sizes["scales"] = ("F16", (groups, out))
    return [OutputTensor(f"{name}.{part}", dtype, shape, None) for part, (dtype, shape) in sizes.items()]


def unknown(what: str) -> InvalidInput:
    return InvalidInput(Reason.UNSUPPORTED_MODEL, f"{what}: write quantization.awq.engine: LLMCompressor")


def _set(module: nn.Module, name: str, value: torch.Tensor) -> None:
    path, _, last = name.rpartition(".")
    setattr(module.get_submodule(path), last, nn.Parameter(value, requires_grad=False))


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(each, device) for each in value)
    return value.to(device) if isinstance(value, torch.Tensor) else value
