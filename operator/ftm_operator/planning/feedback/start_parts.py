"""Reads from an engine's log where the time of its start went. Pure.

    vLLM, v1/worker/gpu_model_runner.py   Model loading took 6.75 GiB memory and 3.217000 seconds
    model_loader/default_loader.py        Loading weights took 2.87 seconds           on a CPU, which says nothing else
    compilation/monitor.py                torch.compile took 21.35 s in total         earlier versions: takes
    v1/engine/core.py                     init engine (profile, create kv cache, warmup model) took 30.21 s
                                          (compilation: 21.35 s)                      earlier ones: 30.21 seconds
    llama.cpp, tools/server               srv  load_model: loading model '/model/model.gguf'
                                          srv  llama_server: model loaded

vLLM compiles while it initializes the engine, so the warm-up is the rest of that. Every rank may say so: the slowest
counts. llama-server says no durations: each line is taken at the time that Kubernetes has written before it, and its
warm-up is a part of its loading.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from ftm_operator.planning.feedback.engine_log import STARTED

SECONDS = r"(\d{1,6}(?:\.\d{1,9})?)"
LOADED = re.compile(rf"Model loading took \S{{1,20}} GiB(?: memory)? and {SECONDS} seconds")
WEIGHTS_LOADED = re.compile(rf"Loading weights took {SECONDS} seconds")
COMPILED = re.compile(rf"torch\.compile (?:took|takes) {SECONDS} s in total")
INITIALIZED = re.compile(
    rf"init engine \(profile, create kv cache, warmup model\) took {SECONDS} s(?:econds)?\b"
    rf"(?: \(compilation: {SECONDS} s)?"
)
LLAMA_LOADS = re.compile(r"^(\S{20,40}) .*\bloading model '", re.MULTILINE)
LLAMA_LOADED = re.compile(r"^(\S{20,40}) .*\bmodel loaded$", re.MULTILINE)


@dataclass(frozen=True)
class StartParts:
    """The seconds of an engine's start by part; None where its log does not say."""

    load_seconds: int | None = None
    compile_seconds: int | None = None
    warm_up_seconds: int | None = None


def start_parts(log: str) -> StartParts | None:
    """Returns what the log says of the start's parts; None where it says nothing. Its lines may begin with a time."""
    parts = _of_vllm(log.partition(STARTED)[0])
    if parts == StartParts():
        parts = StartParts(load_seconds=_loaded_by_llama_server(log))
    return None if parts == StartParts() else parts


def _of_vllm(log: str) -> StartParts:
    loaded = _slowest(LOADED, log)
    load = loaded if loaded is not None else _slowest(WEIGHTS_LOADED, log)
    engine = INITIALIZED.search(log)
    compiled = float(engine[2]) if engine and engine[2] else _slowest(COMPILED, log)
    warm_up = max(0.0, float(engine[1]) - (compiled or 0.0)) if engine else None
    return StartParts(_rounded(load), _rounded(compiled), _rounded(warm_up))


def _loaded_by_llama_server(log: str) -> int | None:
    begins, ends = LLAMA_LOADS.search(log), LLAMA_LOADED.search(log)
    if not begins or not ends:
        return None
    try:
        taken = datetime.fromisoformat(ends[1]) - datetime.fromisoformat(begins[1])
        return max(0, round(taken.total_seconds()))
    except (TypeError, ValueError):
        return None


def _slowest(pattern: re.Pattern[str], log: str) -> float | None:
    return max((float(each) for each in pattern.findall(log)), default=None)


def _rounded(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)
