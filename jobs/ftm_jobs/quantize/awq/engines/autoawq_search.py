"""Searches for scales and clipping by AutoAWQ, over blocks that are read, quantized and written in turn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from awq.quantize.quantizer import AwqQuantizer
from awq.quantize.scale import apply_clip, apply_scale
from awq.utils.module import exclude_layers_to_not_quantize, get_named_linears, get_op_name
from awq.utils.utils import get_best_device
from torch import nn

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.quantize.awq.engines.packing import LARGEST, SMALLEST_RANGE, quantize
from ftm_jobs.quantize.awq.engines.tensor_files import PaddedWeights, TensorWriter

PARTS = ("qweight", "qzeros", "scales")
"""Tensors that stand for a quantized layer's weight."""
GRID = 20
"""Steps of the search for scales: exponents 0, 1/20, …, 19/20 of the activations' size."""
CLIP_GRID = 20
LARGEST_SHRINK = 0.5
"""Share of a group's magnitude that clipping may take."""
CLIP_ROWS = 512
"""Outputs whose clipping is searched at once."""

Advance = Callable[[int], None]
"""Takes the bytes of the model that have been quantized since the last call."""


class _FirstBlockCalled(Exception):
    """Ends a forward pass at the first block."""


class _FirstBlock(nn.Module):
    """Stands in for the first block, and keeps what that would have been called with."""

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
        raise _FirstBlockCalled


@dataclass(frozen=True)
class BlockStream:
    """The files that blocks come from and go to, and the text that they are calibrated with."""

    weights: PaddedWeights
    files: TensorWriter
    texts: list[list[int]]
    """Blocks of token numbers."""
    advance: Advance


class StreamedQuantizer(AwqQuantizer):  # type: ignore[misc]
    """Runs AutoAWQ's quantizer block by block, with its search mended; engines/autoawq.py says what was wrong."""

    def __init__(self, *args: Any, stream: BlockStream, **kwargs: Any) -> None:
        self._stream = stream
        self._device = torch.device(get_best_device())
        super().__init__(*args, **kwargs)

    def init_quant(self, n_samples: int = 128, max_seq_len: int = 512) -> Any:  # noqa: ARG002 - AutoAWQ's signature
        """Returns the blocks, what the first is called with, and its inputs of all samples, in fp32."""
        layers = self.awq_model.get_model_layers(self.model)
        self._fill_outside(layers)
        first = _FirstBlock(layers[0])
        layers[0] = first
        hidden = []
        with torch.no_grad():
            for ids in self._stream.texts:
                try:
                    self.model(torch.tensor([ids], device=self._device), use_cache=False)
                except _FirstBlockCalled:
                    assert first.hidden is not None
                    hidden.append(first.hidden.float())
        layers[0] = first.block
        return layers, {name: _moved(value, self._device) for name, value in first.kwargs.items()}, torch.cat(hidden)

    def _fill_outside(self, layers: nn.ModuleList) -> None:
        """Reads what runs before the first block; what runs after the last is written as it is."""
        inside = {id(parameter) for parameter in layers.parameters()}
        embedding = self.model.get_input_embeddings()
        embedding.register_forward_hook(lambda _module, _inputs, output: output.float())
        head = self.model.get_output_embeddings()
        skipped = {id(parameter) for parameter in head.parameters()} if head is not None else set()
        for name, parameter in list(self.model.named_parameters()):
            if id(parameter) in inside or (id(parameter) in skipped and parameter is not embedding.weight):
                continue
            value = self._stream.weights.read(name)
            value = value if parameter is embedding.weight else value.float()
            set_parameter(self.model, name, value.to(self._device))
        for module in self.model.modules():
            for key, buffer in module.named_buffers(recurse=False):
                module.register_buffer(key, buffer.to(self._device), persistent=False)

    @torch.no_grad()
    def quantize(self) -> None:
        for block in self.modules:
            prefix = get_op_name(self.model, block)
            for name, _ in list(block.named_parameters()):
                stored = self._stream.weights.read(f"{prefix}.{name}")
                set_parameter(block, name, stored.to(self._device, torch.float32, copy=True))  # it is scaled in place
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
            done += self._stream.weights.stored_bytes(f"{prefix}.{name}")
            if module in linears and kind == "weight":
                for part, tensor in zip(PARTS, quantize(parameter, self.group_size), strict=True):
                    self._stream.files.write({f"{prefix}.{module}.{part}": tensor})
            else:
                self._stream.files.write({f"{prefix}.{name}": parameter})
        self._stream.advance(done)

    def pseudo_quantize_tensor(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the rounded weights, in groups along the last dimension, with the groups' scales and zeros."""
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
        """Returns the scales s (in) with the smallest ||Q(W·s) (x/s) - W·x||²; every step starts from the same W."""
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
        """Returns the largest magnitude (out, groups, 1) to keep of each group: least mean ((Q(clipped) - w) · x)²."""
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
"""Layers of one width that a matrix has to hold, so that its last rows are the last layer."""


def _cancels(block: nn.Module, group: Mapping[str, Any]) -> bool:
    """Says whether dividing a layer's outputs cancels with multiplying the next layers' inputs."""
    first, after = group["prev_op"], group["layers"][0]
    if not isinstance(first, nn.Linear):
        return True
    role = get_op_name(block, first).rpartition(".")[2]
    return bool(first.out_features == TOGETHER.get(role, 1) * after.in_features)


def set_parameter(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Replaces a parameter, by its dotted name, with a tensor."""
    path, _, last = name.rpartition(".")
    setattr(module.get_submodule(path), last, nn.Parameter(value, requires_grad=False))


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(each, device) for each in value)
    return value.to(device) if isinstance(value, torch.Tensor) else value
