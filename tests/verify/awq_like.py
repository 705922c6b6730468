"""A checkpoint in AutoAWQ's format, made here by AWQ's idea: a good one, and one that is ruined as a bug ruins it.

Columns of layers that share an input are scaled up by how large that input is, and the norm before them down, so that
what matters is rounded finer. AutoAWQ 0.2.9 on a CPU scales the weights that it believes to be a copy again and again
while it searches, and nothing undoes that: `ruined` leaves the norms as they are.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ftm_jobs.verify.tensors.awq_formats import pack_awq

LARGEST = 15
AFTER_NORM = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}
LAYERS = (*(name for names in AFTER_NORM.values() for name in names), "self_attn.o_proj", "mlp.down_proj")


def write_awq(model: Path, out: Path, group: int, *, ruined: bool = False) -> Path:
    out.mkdir(parents=True)
    for file in model.iterdir():
        if file.suffix in (".json", ".jinja", ".txt", ".model") and file.name != "manifest.json":
            shutil.copy(file, out / file.name)
    tensors = {name: tensor.float() for name, tensor in load_file(model / "model.safetensors").items()}
    for norm, scales in _sizes_after_norms(model).items():
        layer, _, kind = norm.rpartition(".")
        for name in AFTER_NORM[kind]:
            tensors[f"{layer}.{name}.weight"] *= scales
        if not ruined:
            tensors[f"{norm}.weight"] /= scales
    made: dict[str, torch.Tensor] = {}
    for name, weight in tensors.items():
        module = name.removesuffix(".weight")
        if module.endswith(LAYERS):
            levels, zeros, steps = _rounded(weight, group)
            made[f"{module}.qweight"] = pack_awq(levels.T.contiguous())
            made[f"{module}.qzeros"] = pack_awq(zeros.T.contiguous())
            made[f"{module}.scales"] = steps.T.contiguous().to(torch.float16)
        else:
            made[name] = weight.to(torch.float16)
    save_file(made, out / "model.safetensors", metadata={"format": "pt"})
    settings = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    config = json.loads((out / "config.json").read_text()) | {"quantization_config": settings}
    (out / "config.json").write_text(json.dumps(config, indent=2))
    return out


def _sizes_after_norms(model: Path) -> dict[str, torch.Tensor]:
    """By norm, the square root of how large each of its outputs is on some text, 1 in the geometric mean."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    found: dict[str, torch.Tensor] = {}

    def note(name: str) -> Any:
        return lambda _, __, out: found.update({name: out.abs().mean((0, 1)).clamp_min(1e-4).sqrt()})

    for name, module in loaded.named_modules():
        if name.rpartition(".")[2] in AFTER_NORM:
            module.register_forward_hook(note(name))
    with torch.no_grad():
        loaded(
            input_ids=torch.randint(0, loaded.config.vocab_size, (1, 64), generator=torch.Generator().manual_seed(1))
        )
    return {name: sizes / sizes.log().mean().exp() for name, sizes in found.items()}


def _rounded(weight: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Levels (out, in), zeros and steps (out, in/group)."""
    grouped = weight.view(weight.shape[0], -1, group)
    low, high = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
    step = ((high - low) / LARGEST).clamp_min(1e-6).half().float()
    zero = (-low / step).round().clamp(0, LARGEST)
    levels = ((grouped / step).round() + zero).clamp(0, LARGEST)
    return levels.flatten(1), zero[..., 0], step[..., 0]
