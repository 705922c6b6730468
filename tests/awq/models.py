"""Models for the engines' tests: a few real blocks of SmolLM2, and small random ones of every family, as files.

And what a quantized model computes: its weights put back into transformers, in fp32, beside those it was made from.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ftm_jobs.quantize.awq.engines.packing import dequantize

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 248,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
}


def first_blocks(model: Path, folder: Path, count: int) -> Path:
    """The model with its first blocks alone: real weights, at a fraction of the time."""
    folder.mkdir(parents=True)
    config = json.loads((model / "config.json").read_text())
    config["num_hidden_layers"] = count
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = load_file(model / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if _is_kept(name, count)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    _copy_tokenizer(model, folder)
    return folder


def _is_kept(name: str, count: int) -> bool:
    parts = name.split(".")
    return "layers" not in parts or int(parts[parts.index("layers") + 1]) < count


def random_model(
    tokenizer_of: Path, folder: Path, model_type: str, dtype: torch.dtype = torch.bfloat16, **fields: Any
) -> Path:
    """A small model of a family, as transformers 5 saves it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(7)
    vocabulary = json.loads((tokenizer_of / "config.json").read_text())["vocab_size"]
    config = AutoConfig.for_model(model_type, **{**SMALL, "vocab_size": vocabulary, "pad_token_id": 2, **fields})
    causal: Any = AutoModelForCausalLM
    model = causal.from_config(config, dtype=dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "layers" in name:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    _copy_tokenizer(tokenizer_of, folder)
    return folder


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copy(source / name, folder)


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        opened: Any = safe_open(str(path), framework="pt")
        found.update({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118 - no mapping
    return found


def dequantized(folder: Path) -> dict[str, torch.Tensor]:
    """The weights in fp32 that an AWQ model computes with."""
    tensors = tensors_of(folder)
    found = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if part == "qweight":
            found[f"{module}.weight"] = dequantize(tensor, tensors[f"{module}.qzeros"], tensors[f"{module}.scales"])
        elif part not in ("qzeros", "scales"):
            found[name] = tensor.float()
    return found


def rounded(model: Path, group_size: int) -> dict[str, torch.Tensor]:
    """Plain round-to-nearest of the same layers, asymmetric, in groups: the yardstick."""
    from ftm_jobs.quantize.awq.engines.packing import quantize
    from ftm_jobs.quantize.awq.layout import quantized_linears

    tensors = tensors_of(model)
    linears = {f"{each.name}.weight" for each in quantized_linears({name: tensors[name].shape for name in tensors})}
    found = {name: tensor.float() for name, tensor in tensors.items()}
    for name in linears:
        width = found[name].shape[1]
        whole = torch.nn.functional.pad(found[name], (0, -width % group_size))
        found[name] = dequantize(*quantize(whole, group_size))[:, :width]
    return found


def logits(config_of: Path, weights: dict[str, torch.Tensor], ids: Sequence[int]) -> torch.Tensor:
    """(tokens, vocabulary) in fp32, by .venv's transformers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(config_of)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    causal: Any = AutoModelForCausalLM
    model = causal.from_config(config, dtype=torch.float32).eval()
    given = dict(weights)
    if config.tie_word_embeddings:
        given["lm_head.weight"] = given["model.embed_tokens.weight"]
    model.load_state_dict(given)
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([list(ids)])).logits[0]
    return found


def divergence(reference: torch.Tensor, measured: torch.Tensor) -> float:
    """Mean KL in nats per token."""
    expected = reference.log_softmax(-1)
    return float((expected.exp() * (expected - measured.log_softmax(-1))).sum(-1).mean())
