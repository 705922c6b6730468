"""The lines that the operator and `ftm plan --against` read are those that this vLLM writes."""

from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("v1/worker/gpu_model_runner.py", '"Model loading took %s GiB memory and %.6f seconds"'),
        ("v1/worker/gpu/model_runner.py", '"Model loading took %s GiB memory and %.6f seconds"'),
        ("v1/worker/gpu_worker.py", '"Available KV cache memory: %s GiB"'),
        ("v1/core/kv_cache_utils.py", '"%s KV cache size: %s tokens, "'),
        ("v1/core/kv_cache_utils.py", '"Maximum concurrency for %s tokens per request: %.2fx"'),
        ("v1/core/kv_cache_utils.py", '"No available memory for the cache blocks. "'),
        ("v1/core/kv_cache_utils.py", 'f"({max_model_len}), ({format_gib(needed_memory)} GiB KV "'),
        ("v1/core/kv_cache_utils.py", 'f"cache is needed, which is larger than the available KV cache "'),
        ("v1/core/kv_cache_utils.py", 'f"memory ({format_gib(available_memory)} GiB). {estimated_msg}"'),
        ("v1/worker/utils.py", 'f"Free memory on device {init_snapshot.device_} "'),
        ("v1/worker/gpu_model_runner.py", '"Graph capturing finished in %.0f secs, took %.2f GiB"'),
        ("v1/worker/gpu/model_runner.py", '"Graph capturing finished in %.0f secs, took %.2f GiB"'),
        ("v1/worker/gpu_worker.py", 'f"Free memory on device "'),
        ("v1/worker/gpu_worker.py", 'f"for peak activation, and {format_gib(cuda_graph_memory_bytes)} "'),
        ("v1/engine/core.py", '"Initializing a V1 LLM engine (v%s) with config: %s"'),
        ("config/vllm.py", 'f"tensor_parallel_size={self.parallel_config.tensor_parallel_size}, "'),
        ("config/vllm.py", 'f"max_seq_len={self.model_config.max_model_len}, "'),
        ("config/scheduler.py", '"Chunked prefill is enabled with max_num_batched_tokens=%d."'),
        ("entrypoints/serve/utils/api_utils.py", '"non-default args: %s"'),
        ("model_executor/model_loader/default_loader.py", '"Loading weights took %.2f seconds"'),
        ("compilation/monitor.py", 'message: str = "%storch.compile took %.2f s in total"'),
        ("v1/engine/core.py", '"init engine (profile, create kv cache, warmup model) took %.2f s"'),
        ("v1/engine/core.py", '"%.2f s (compilation: %.2f s)"'),
        ("v1/engine/core.py", '"%.2f s (compilation: %.2f s — language_model: %.2f s, "'),
        ("v1/worker/utils.py", 'f"is less than desired GPU memory utilization "'),
    ],
)
def test_the_engine_still_says(file: str, words: str) -> None:
    engine = find_spec("vllm")
    assert engine
    assert engine.submodule_search_locations
    assert words in (Path(engine.submodule_search_locations[0]) / file).read_text()
