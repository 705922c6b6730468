"""Every kind of adapter on every family of models: what transformers loads is PEFT's result, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.stores.conftest import Run
from tests.stores.families import Adapter, load, make_adapter, make_family, merged_by_peft
from tests.stores.places import Disk

ATTENTION = ["q_proj", "v_proj"]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32

PLAIN = Adapter({"target_modules": LINEAR})
DORA = Adapter({"target_modules": LINEAR, "use_dora": True})
EMBEDDING = Adapter({"target_modules": ["embed_tokens", "q_proj"]}, save={"save_embedding_layers": False})
SAVED_EMBEDDING = Adapter({"target_modules": ["embed_tokens", "q_proj"]})
OUTPUT = Adapter({"target_modules": ["lm_head", "q_proj"]})
TRAINED_EMBEDDING = Adapter({"target_modules": ATTENTION, "modules_to_save": ["embed_tokens"]})
TRAINED_OUTPUT = Adapter({"target_modules": ATTENTION, "modules_to_save": ["lm_head"]})
TRAINED_BOTH = Adapter({"target_modules": ATTENTION, "modules_to_save": ["embed_tokens", "lm_head"]})
TRAINED_NORMS = Adapter({"target_modules": ATTENTION, "modules_to_save": ["input_layernorm"]})
KEPT_TIED = Adapter({"target_modules": ATTENTION, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True})
TOKENS = Adapter({"target_modules": ATTENTION, "trainable_token_indices": [5, 3, 60]})
RESIZED = Adapter({"target_modules": ATTENTION}, vocabulary=70)
RESIZED_EMBEDDING = Adapter({"target_modules": ["embed_tokens", "lm_head", "q_proj"]}, vocabulary=70)
BIAS = Adapter({"target_modules": ATTENTION, "lora_bias": True})
ALL_BIASES = Adapter({"target_modules": ATTENTION, "bias": "all"})
PATTERNS = Adapter(
    {
        "target_modules": LINEAR,
        "use_rslora": True,
        "rank_pattern": {"layers.0.self_attn.q_proj": 8, "q_proj": 2, "^model.layers.1.mlp.*": 3},
        "alpha_pattern": {".*proj": 3},
    }
)
CONV1D = Adapter({"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True})
EXPERTS = Adapter(
    {"target_modules": ATTENTION, "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
)
DOWN = Adapter({"target_modules": [], "target_parameters": ["experts.down_proj"]})
ROUTER = Adapter({"target_modules": ATTENTION, "target_parameters": ["gate.weight"]})
ALL_LINEAR = Adapter({"target_modules": "all-linear"})

CASES: dict[str, tuple[str, torch.dtype, list[Adapter]]] = {
    "llama plain": ("llama", BF16, [PLAIN]),
    "llama fp16": ("llama", FP16, [PLAIN]),
    "llama fp32 from bf16": ("llama", FP32, [Adapter(PLAIN.lora, dtype=BF16)]),
    "llama bf16 from fp16": ("llama", BF16, [Adapter(DORA.lora, dtype=FP16)]),
    "llama rsLoRA and patterns": ("llama", BF16, [PATTERNS]),
    "llama DoRA": ("llama", BF16, [DORA]),
    "llama DoRA fp32": ("llama", FP32, [DORA]),
    "llama plain, DoRA, DoRA": ("llama", BF16, [PLAIN, DORA, DORA]),
    "llama DoRA, plain": ("llama", FP16, [DORA, PLAIN]),
    "llama lora_bias": ("llama", BF16, [BIAS]),
    "llama all biases": ("llama", BF16, [ALL_BIASES]),
    "llama embedding": ("llama", BF16, [EMBEDDING]),
    "llama embedding, saved": ("llama", BF16, [SAVED_EMBEDDING]),
    "llama embedding, DoRA": ("llama", BF16, [Adapter({**EMBEDDING.lora, "use_dora": True}, save=EMBEDDING.save)]),
    "llama output": ("llama", BF16, [OUTPUT]),
    "llama trained embedding": ("llama", BF16, [TRAINED_EMBEDDING]),
    "llama trained output": ("llama", FP16, [TRAINED_OUTPUT]),
    "llama trained norms": ("llama", BF16, [TRAINED_NORMS]),
    "llama trained both, then plain": ("llama", BF16, [TRAINED_BOTH, PLAIN]),
    "llama token rows": ("llama", BF16, [TOKENS]),
    "llama resized": ("llama", BF16, [RESIZED]),
    "llama resized, embedding": ("llama", BF16, [RESIZED_EMBEDDING]),
    "tied plain": ("llama tied", BF16, [PLAIN]),
    "tied embedding": ("llama tied", BF16, [EMBEDDING]),
    "tied embedding, saved": ("llama tied", BF16, [SAVED_EMBEDDING]),
    "tied output": ("llama tied", BF16, [OUTPUT]),
    "tied output and embedding": ("llama tied", BF16, [OUTPUT, EMBEDDING]),
    "tied trained embedding": ("llama tied", BF16, [TRAINED_EMBEDDING]),
    "tied trained output": ("llama tied", BF16, [TRAINED_OUTPUT]),
    "tied trained both": ("llama tied", BF16, [TRAINED_BOTH]),
    "tied trained embedding, kept tied": ("llama tied", BF16, [KEPT_TIED]),
    "tied token rows": ("llama tied", BF16, [TOKENS]),
    "tied resized": ("llama tied", BF16, [RESIZED]),
    "gemma plain": ("gemma", BF16, [PLAIN]),
    "gemma trained output": ("gemma", BF16, [TRAINED_OUTPUT]),
    "gemma DoRA": ("gemma", FP32, [DORA]),
    "qwen2 DoRA": ("qwen2", BF16, [DORA]),
    "qwen2 lora_bias": ("qwen2", FP16, [BIAS]),
    "mistral two": ("mistral", BF16, [PLAIN, Adapter({"target_modules": ATTENTION})]),
    "phi3 fused": ("phi3", BF16, [Adapter({"target_modules": ["qkv_proj", "gate_up_proj", "o_proj"]})]),
    "gpt2 Conv1D": ("gpt2", BF16, [CONV1D]),
    "gpt2 Conv1D, fp32": ("gpt2", FP32, [CONV1D]),
    "gpt2 Conv1D, DoRA": ("gpt2", BF16, [Adapter({**CONV1D.lora, "use_dora": True})]),
    "gpt2 Conv1D, lora_bias": ("gpt2", BF16, [Adapter({**CONV1D.lora, "lora_bias": True})]),
    "gpt2 embedding": ("gpt2", BF16, [Adapter({"target_modules": ["wte"]})]),
    "gpt2 trained output": ("gpt2", BF16, [Adapter({"target_modules": ["c_attn"], "modules_to_save": ["lm_head"]})]),
    "mixtral attention": ("mixtral", BF16, [Adapter({"target_modules": ATTENTION})]),
    "mixtral experts": ("mixtral", BF16, [EXPERTS]),
    "mixtral router": ("mixtral", BF16, [ROUTER]),
    "qwen2 moe experts": ("qwen2 moe", BF16, [EXPERTS]),
    "qwen2 moe all": ("qwen2 moe", BF16, [ALL_LINEAR]),
    "qwen3 moe experts, fp32": ("qwen3 moe", FP32, [EXPERTS]),
    "qwen3 moe down_proj": ("qwen3 moe", BF16, [DOWN]),
    "gpt-oss experts": ("gpt-oss", BF16, [EXPERTS]),
    "llava": ("llava", BF16, [Adapter({"target_modules": ["q_proj", "fc1", "linear_1"]})]),
    "llava trained output": ("llava", BF16, [TRAINED_OUTPUT]),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, torch.dtype], Path]:
    class Made(dict[tuple[str, torch.dtype], Path]):
        def __missing__(self, key: tuple[str, torch.dtype]) -> Path:
            self[key] = make_family(tmp_path_factory.mktemp("base"), *key)
            return self[key]

    return Made()


def same(found: Any, expected: Any) -> list[str]:
    """What differs between two models."""
    ours, theirs = found.state_dict(), expected.state_dict()
    wrong = sorted(ours.keys() ^ theirs.keys())
    for name in ours.keys() & theirs.keys():
        if ours[name].dtype != theirs[name].dtype or not torch.equal(ours[name], theirs[name]):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize(("family", "dtype", "adapters"), CASES.values(), ids=CASES)
def test_a_merged_model_is_peft_s_bit_for_bit(
    family: str,
    dtype: torch.dtype,
    adapters: list[Adapter],
    bases: dict[tuple[str, torch.dtype], Path],
    tmp_path: Path,
    run: Run,
) -> None:
    base = bases[family, dtype]
    folders = [
        make_adapter(tmp_path / f"adapter-{number}", family, base, dtype, adapter, number)
        for number, adapter in enumerate(adapters)
    ]
    scales = [1.0, 0.3, -2.0][: len(adapters)]
    sources = [f"--adapter={path.as_uri()},scale={scale}" for path, scale in zip(folders, scales, strict=True)]
    report = run("merge", "--base", base.as_uri(), *sources, "--artifacts", Disk(tmp_path).artifacts)
    assert report.artifact, report.message
    expected = merged_by_peft(family, base, dtype, folders, scales, adapters[0].vocabulary)
    found = load(family, tmp_path / "artifacts" / report.artifact.key)
    assert same(found, expected) == []
    assert same(found, load(family, base)) != []
    assert found.config.tie_word_embeddings == expected.config.tie_word_embeddings
    assert found.config.get_text_config().vocab_size == expected.config.get_text_config().vocab_size
