"""Gives vLLM's CPU build in tests an environment in which it starts soon and leaves others a processor."""

from pathlib import Path

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    # What vLLM has found out about its own classes, by importing all once more in a process of its own.
    "VLLM_CACHE_ROOT": str(Path.home() / ".cache/vllm"),
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # No process for the worker, as on one GPU: it would import all once more.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}
