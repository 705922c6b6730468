"""Measures the ways to serve one fine-tuned model, its starts, its fetch and its rollout, in one run on one processor.

`make bench-serve` (`python -m tests.bench.served`) builds the end-to-end tests' model as a cluster's Jobs do. vLLM's
CPU build serves the merged model, the base with its adapter beside it, and the merged model in AWQ's format where the
processor has AVX-512; llama-server serves the GGUF file (Q8_0), and plain transformers the merged model. All get the
same prompts, give answers of a fixed length and have as many threads, and all other engines are frozen meanwhile. The
last line is JSON.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

from tests import assets, llama_cpp
from tests.bench.fetched import MIB, measure_fetch
from tests.bench.served.engines import Engine, llama_engine, started, vllm_engine
from tests.bench.served.figures import format_ways, last_line
from tests.bench.served.models import NAME
from tests.bench.served.pods import ServedFiles, prepare_files
from tests.bench.served.rollout import RolledOut, roll_out
from tests.bench.served.starts import drop_pages, measure_start
from tests.bench.served.ways import measure_ways, prompts_of, say

FETCHED_FILE_BYTES, FETCH_ROUNDS = 96 * MIB, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of all ways, in turn (default 3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each way (default: all)")
    parsed = parser.parse_args()
    assets.work_quietly()
    tools = llama_cpp.prepare()
    variables = {
        "FTM_LLAMA_CPP": str(tools),
        "OMP_NUM_THREADS": str(parsed.threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait leave the cores to the client and to who else is here
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, variables):
        print(json.dumps(measure(Path(folder), parsed.rounds, parsed.threads)))


def measure(folder: Path, rounds: int, threads: int) -> dict[str, float]:
    """Measures everything, prints it, and returns the last line."""
    say(f"{threads} threads for each way")
    of_raw = print_fetch(folder / "fetched")
    files = prepare_files(folder)
    print_first_starts(files, folder, threads)
    with started(vllm_engine(files.built.merged, files.warm, folder / "merged.log")) as merged:
        print(measure_start("vLLM, warm", merged, files.warm.fetch_seconds, None).words)
        ways = measure_ways(files, merged, folder, threads, rounds)
        print(format_ways(list(ways.values()), ways["hf"]))
        print(f"merged by dynamic: {ways['merged'].ratio(ways['dynamic']):.2f}")
        rolled = print_rollout(files, merged, folder)
    return last_line(ways, of_raw, sum(rolled.failed.values()))


def print_fetch(folder: Path) -> float:
    """Prints the rates of the fetch beside raw reads, and returns their ratio."""
    found = measure_fetch(folder, FETCH_ROUNDS, FETCHED_FILE_BYTES)
    for side, rate in found.bytes_per_second.items():
        print(f"{'fetch, ' + side:<28}{rate / 1e6:>8.0f} MB/s")
    print(f"fetch, by the faster raw way: {found.of_raw:.2f}")
    return found.of_raw


def print_first_starts(files: ServedFiles, folder: Path, threads: int) -> None:
    """Prints the starts of both engines by part, cold, and of llama-server warm, each alone."""
    left = drop_pages(files.cold.model)
    with started(vllm_engine(files.built.merged, files.cold, folder / "cold.log")) as engine:
        print(measure_start("vLLM, cold", engine, files.cold.fetch_seconds, left).words)
    for title in ("cold", "warm"):
        dropped = drop_pages(files.gguf.model) if title == "cold" else None
        with started(llama_engine(files.built.gguf, files.gguf, threads, folder / f"gguf-{title}.log")) as engine:
            print(measure_start(f"llama-server, {title}", engine, None, dropped).words)


def print_rollout(files: ServedFiles, old: Engine, folder: Path) -> RolledOut:
    """Prints what became of the requests while an engine was replaced."""
    new = vllm_engine(files.built.merged, files.warm, folder / "new.log")
    _, prompts = prompts_of(0)
    found = asyncio.run(roll_out(old, new, files.warm.guard, NAME, prompts, say))
    print(found.words)
    return found


if __name__ == "__main__":
    main()
