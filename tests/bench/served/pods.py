"""Fetches what is served into the folders of pods of one node, by the fetch container's own command.

It comes from a real S3 server to the node's cache. The second pod of the merged model is there when the server is gone.
The model in AWQ's format is made here, by scaling and rounding alone: to have AutoAWQ make it takes minutes, and an
environment of 5 GB, and an engine needs as long for either.
"""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.steps import Step
from ftm_operator.local import steps as local
from tests.assets import prepare
from tests.bench.served.models import BuiltModels, build_models
from tests.servers.seaweedfs import ADMIN, ARTIFACTS, seaweedfs
from tests.verify.awq_like import write_awq

CACHE_BYTES, MOST_BYTES = 4 * GIB, GIB
AWQ_GROUP = 64


@dataclass(frozen=True)
class PodFolders:
    """The folders of one pod."""

    model: Path
    guard: Path
    fetch_seconds: float


@dataclass(frozen=True)
class ServedFiles:
    """The folders of all pods, and what they serve."""

    built: BuiltModels
    cold: PodFolders
    """The merged model's first pod."""
    warm: PodFolders
    """Its second one."""
    dynamic: PodFolders
    adapter: PodFolders
    gguf: PodFolders
    awq: PodFolders | None
    """None: vLLM's kernel of 4-bit weights takes AVX-512, which this processor has not."""


def prepare_files(folder: Path) -> ServedFiles:
    """Builds everything into a store and fetches it from there."""
    made, node = prepare(), folder / "node"
    with seaweedfs(folder / "store") as server, patch.dict(os.environ, secret := server.secret(ADMIN)):
        built = build_models(made, f"s3://{ARTIFACTS}/built")
        cold = fetch_to_pod(built.merged.fetched, node, "cold")
        dynamic = fetch_to_pod(built.dynamic.fetched, node, "dynamic")
        adapter = fetch_to_pod(built.adapter, node, "adapter")
        gguf = fetch_to_pod(built.gguf.fetched, node, "gguf")
    with patch.dict(os.environ, secret):
        warm = fetch_to_pod(built.merged.fetched, node, "warm")
    awq = None
    if "avx512f" in Path("/proc/cpuinfo").read_text().split():
        awq = replace(warm, model=write_awq(warm.model, folder / "awq", AWQ_GROUP))
    return ServedFiles(built, cold, warm, dynamic, adapter, gguf, awq)


def fetch_to_pod(fetched: tuple[str, str], node: Path, pod: str) -> PodFolders:
    """Runs the fetch container's command: what is served comes to the node's cache, or is there."""
    folder, cache = node / pod, node / "cache"
    arguments = [*fetched, "--to", str(folder / "model"), "--guard", str(folder / "guard")]
    arguments += ["--cache", str(cache), "--cache-size", str(CACHE_BYTES), "--bytes", str(MOST_BYTES), "--pod", pod]
    began = time.monotonic()
    local.run_command(Step.FETCH, arguments)
    seconds = time.monotonic() - began
    return PodFolders(folder / "model", folder / "guard", seconds)
