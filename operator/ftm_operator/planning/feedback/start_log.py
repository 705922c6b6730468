"""Reads from a whole start-up log of vLLM what was started, with which sizes, and what it took. Pure.

    entrypoints/                    vLLM API server version 1.2.3
                                    non-default args: {'model': 'org/name', 'max_model_len': 16384, …}
    v1/engine/core.py               Initializing a V1 LLM engine (v1.2.3) with config: model='org/name', …
    config/scheduler.py             Chunked prefill is enabled with max_num_batched_tokens=2048.
    v1/worker/gpu_worker.py         Free memory on device (78.6/79.14 GiB) on startup. Desired GPU memory utilization is
                                    (0.9, 71.18 GiB). Actual usage is 14.25 GiB for weight, 0.45 GiB for peak
                                    activation, 0.07 GiB for non-torch memory, and 0.5 GiB for CUDAGraph memory.
    the same, later                 … 14.4 GiB for consumed memory (weights + non-torch), 2.58 GiB for peak activation,
                                    and 0.3 GiB for CUDAGraph memory.
    v1/worker/gpu_model_runner.py   Graph capturing finished in 20 secs, took 0.50 GiB
    V0's worker/worker.py           model weights take 14.96GiB; non_torch_memory takes 0.20GiB; PyTorch activation peak
                                    memory takes 1.26GiB; the rest of the memory reserved for KV Cache is 53.29GiB.

and the lines of `engine_log`. Of several ranks the largest of each item counts, and of the KV cache the smallest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ftm_jobs.contract.byte_counts import GIB
from ftm_operator.api.v1alpha1 import Measured
from ftm_operator.planning.feedback.engine_log import GIB_NUMBER, STARTED, Lack, figures_in, lack_in
from ftm_operator.planning.memory.engine_setup import Version, version_of_image

VERSION = re.compile(r"(?:vLLM API server version|LLM engine \(v)\s*v?(\d[\w.+-]{0,40})")
MODEL = re.compile(r"with config: model='([^'\n]{1,500})'|['\"]model(?:_tag)?['\"]: '([^'\n]{1,500})'")
BATCH = re.compile(r"max_num_batched_tokens(?:=|['\"]: )(\d{1,9})")
TOTAL = re.compile(rf"Free memory on device(?: \S{{1,40}})? \({GIB_NUMBER}/{GIB_NUMBER} GiB\) on startup")
PEAK = re.compile(rf"(?:{GIB_NUMBER} GiB for peak activation|PyTorch activation peak memory takes {GIB_NUMBER}GiB)")
NON_TORCH = re.compile(rf"(?:{GIB_NUMBER} GiB for non-torch memory|non_torch_memory takes {GIB_NUMBER}GiB)")
GRAPHS = re.compile(rf"\bGraph capturing finished in [\d.]{{1,12}} secs, took {GIB_NUMBER} GiB")
NUMBERS: Mapping[str, str] = {
    "tensor_parallel_size": r"\d{1,6}",
    "pipeline_parallel_size": r"\d{1,6}",
    "max_model_len": r"\d{1,9}",
    "max_seq_len": r"\d{1,9}",
    "max_num_seqs": r"\d{1,9}",
    "gpu_memory_utilization": r"\d?\.\d{1,9}|1",
}
"""The engine's settings that are numbers, as arguments or in its config."""
WORDS = {
    "dtype": r"(?:torch\.)?\w{1,20}",
    "enable_prefix_caching": "True|False",
    "enforce_eager": "True|False",
    "kv_cache_dtype": r"[\w-]{1,30}",
}


@dataclass(frozen=True)
class StartLog:
    """One start of vLLM, as it logged it; None where it did not say."""

    version: str | None
    model: str | None
    settings: Mapping[str, str]
    """Its settings by their names in vLLM, such as tensor_parallel_size."""
    batched_tokens: int | None
    total_bytes: int | None
    """Memory of the GPU that the engine sees."""
    measured: Measured
    activation_bytes: int | None
    """With the estimate of CUDA graphs from 0.21 on."""
    non_torch_bytes: int | None
    graph_bytes: int | None
    """Bytes of the graphs once captured; below zero is none."""
    lack: Lack | None

    @property
    def minor_version(self) -> Version | None:
        """Returns major and minor version."""
        return version_of_image(f":{self.version}") if self.version else None

    def number(self, name: str) -> int | None:
        """Returns a setting that is a whole number."""
        return int(self.settings[name]) if name in self.settings else None


def start_log(log: str) -> StartLog | None:
    """Returns what the log says of the start; None where it says nothing of memory."""
    before = log.partition(STARTED)[0]
    measured, lack = figures_in(log), lack_in(log)
    if measured == Measured() and lack is None:
        return None
    version, model, total = VERSION.search(before), MODEL.search(before), TOTAL.search(before)
    batch = BATCH.findall(before)
    return StartLog(
        version=version[1] if version else None,
        model=next(filter(None, model.groups()), None) if model else None,
        settings=_settings(before),
        batched_tokens=int(batch[-1]) if batch else None,
        total_bytes=_bytes(total[2]) if total else None,
        measured=measured,
        activation_bytes=_largest(PEAK, before),
        non_torch_bytes=_largest(NON_TORCH, before),
        graph_bytes=_largest(GRAPHS, before),
        lack=lack,
    )


def _settings(log: str) -> dict[str, str]:
    """Returns what arguments and config say, the latter last, which has the defaults as well."""
    found: dict[str, str] = {}
    for name, pattern in {**NUMBERS, **WORDS}.items():
        said = re.findall(rf"\b{name}(?:=|['\"]: )'?({pattern})\b", log)
        if said:
            found[name] = said[-1].removeprefix("torch.")
    if "max_seq_len" in found:
        found["max_model_len"] = found.pop("max_seq_len")
    return found


def _largest(pattern: re.Pattern[str], log: str) -> int | None:
    texts = [text for match in pattern.finditer(log) for text in match.groups() if text]
    return max((_bytes(each) for each in texts), default=None)


def _bytes(gib: str) -> int:
    return round(float(gib) * GIB)
