"""llama-server allocates the caches that the planner counts, of models with windows, latents and plain attention."""

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import DeepseekV3Config, Gemma3TextConfig, LlamaConfig, MistralConfig

from ftm_jobs.__main__ import main
from ftm_operator.planning.memory.llama_cpp import cache_bytes
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.planning.model.config_facts import facts_of_config
from tests.gguf.models import make_model

SLOTS, CONTEXT = 2, 3000
SHAPE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 8192,
}
CONFIGS = {
    "plain": LlamaConfig(**SHAPE, num_hidden_layers=3),
    "a window that llama.cpp keeps to": Gemma3TextConfig(**SHAPE, num_hidden_layers=12, sliding_window=512),
    "a window that it does not know": MistralConfig(**SHAPE, num_hidden_layers=3, sliding_window=512),
    "a latent": DeepseekV3Config(
        **{**SHAPE, "num_key_value_heads": 4, "head_dim": 32},
        num_hidden_layers=3,
        first_k_dense_replace=3,
        kv_lora_rank=128,
        q_lora_rank=64,
        qk_rope_head_dim=32,
        qk_nope_head_dim=64,
        v_head_dim=64,
    ),
}


def allocated_mebibytes(server: Path, model: Path, folder: Path) -> float:
    """The sum of the caches that llama-server says it allocates."""
    log = folder / "log"
    flags = ["--model", str(model), "--port", "0", "--threads", "1", "--ctx-size", str(SLOTS * CONTEXT)]
    flags += ["--parallel", str(SLOTS), "--no-webui", "--no-warmup", "--verbosity", "4"]
    with log.open("wb") as output:
        running = subprocess.Popen([server, *flags], env=dict(os.environ), stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 120
            while "n_slots" not in log.read_text(errors="replace") and time.monotonic() < deadline:
                assert running.poll() is None, log.read_text(errors="replace")[-3000:]
                time.sleep(0.2)
        finally:
            running.kill()
            running.wait()
    sizes = re.findall(r"KV buffer size = +([0-9.]+) MiB", log.read_text(errors="replace"))
    assert sizes, log.read_text(errors="replace")[-3000:]
    return sum(float(size) for size in sizes)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_caches_take_what_is_planned(config: Any, tools: Path, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", config)
    assert main(["gguf", "--model", folder.as_uri(), "--artifacts", tmp_path.as_uri(), "--type", "Q8_0"]) == 0
    (model,) = tmp_path.glob("gguf-*/model.gguf")
    facts = facts_of_config("file:///model", "sha256:0", config.to_dict())
    planned = cache_bytes(architecture(facts), SLOTS, CONTEXT) / 2**20
    assert allocated_mebibytes(tools / "bin/llama-server", model, tmp_path) == pytest.approx(planned, abs=0.02)
