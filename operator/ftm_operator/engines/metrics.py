"""Names the metrics by which a replica's load and its answers are told, as the engines' own /metrics has them."""

from dataclasses import dataclass

from ftm_operator.engines import llama_server, vllm


@dataclass(frozen=True)
class LoadMetrics:
    """The names of an engine's metrics."""

    running: str
    """A gauge of the requests that are in work."""
    waiting: str
    """A gauge of the requests that wait for their turn."""
    tokens: str
    """A counter of the tokens that were generated."""
    kv_cache_usage: str | None = None
    """A gauge of the used share of the KV cache, from 0 to 1; None where the engine has none."""


@dataclass(frozen=True)
class RequestMetrics:
    """The names of an engine's metrics of requests that were answered."""

    requests: str
    """A counter of HTTP requests, by `method` and by `status`: 2xx, 4xx, 5xx."""
    finished: str
    """A counter of requests that the engine ended, by `finished_reason`."""
    first_token_seconds: str
    """A histogram of the time to the first token."""
    token_seconds: str
    """A histogram of the time from one token to the next."""


LOAD_METRICS = {
    vllm.ENGINE: LoadMetrics(
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        tokens="vllm:generation_tokens_total",
        kv_cache_usage="vllm:kv_cache_usage_perc",
    ),
    llama_server.ENGINE: LoadMetrics(
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
        tokens="llamacpp:tokens_predicted_total",
    ),
}
"""The metrics of each engine. Sources: vllm/v1/metrics/loggers.py; llama.cpp tools/server/server-context.cpp."""
REQUEST_METRICS = {
    vllm.ENGINE: RequestMetrics(
        requests="http_requests_total",
        finished="vllm:request_success_total",
        first_token_seconds="vllm:time_to_first_token_seconds",
        token_seconds="vllm:inter_token_latency_seconds",
    ),
}
"""The metrics of each engine that counts requests; llama.cpp counts none. Sources: vllm/v1/metrics/loggers.py;
vllm/entrypoints/serve/instrumentator/metrics.py."""
