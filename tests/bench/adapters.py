"""Measures adapters at run time: how long until all answer, what the agent takes, and what mixing them costs.

`make bench-adapters` (`python -m tests.bench.adapters`) serves a tiny base by vLLM with 10, 100 and 500 adapters, which
the agent loads from nothing each time, then asks them all in turn, then the base alone and a merged model, each by an
engine of its own without adapters. The last line is JSON. Of figures by number the last is that of the most adapters.
"""

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from ftm_jobs.contract.run_time_adapters import AdapterState, WantedAdapter
from ftm_jobs.steps.runs.kept_adapter import keep
from ftm_jobs.stores.source import parse_source
from ftm_operator.benchmark.figures import Figures
from ftm_operator.benchmark.load import RequestLoad, run
from ftm_operator.benchmark.prompts import PromptSet
from ftm_operator.benchmark.streaming import RequestSettings
from tests.bench.idle_writes import idle_writes
from tests.engine.live import BASE, KEY, SIZES, AgentProcess, Server, prepared, write_adapter

COUNTS = (10, 100, 500)
SLOTS = 8
"""Adapters that one batch may mix; as many requests are in flight."""
REQUESTS, TOKENS, WORDS = 200, 32, (4, 8)
SECONDS_TO_LOAD = 540
MIB = 1 << 20


@dataclass(frozen=True)
class Loaded:
    """So many adapters that all answer."""

    adapters: int
    seconds: float
    agent_rss_mib: float
    engine_rss_mib: float
    mixed: Figures


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    print(json.dumps(found))


def measure(folder: Path) -> dict[str, float]:
    server = prepared(folder)
    kept = kept_adapters(folder, max(COUNTS))
    server.sizes = {**SIZES, "--max-loras": SLOTS, "--max-cpu-loras": max(COUNTS)}
    with started(server):
        loaded = [measure_loaded(folder, server, kept[:count]) for count in COUNTS]
    base = tokens_per_second(folder, folder / "model")
    merged = tokens_per_second(folder, merge(folder))
    writes = idle_writes()
    say(f"base alone: {base:.0f} tokens/s, merged: {merged:.0f}; the operator's writes when nothing changes: {writes}")
    most = loaded[-1]
    return {
        "adapters": most.adapters,
        "all_answer_seconds": most.seconds,
        "agent_rss_mib": most.agent_rss_mib,
        "engine_rss_mib": most.engine_rss_mib,
        "mixed_tokens_per_second": most.mixed.output_throughput,
        "merged_tokens_per_second": merged,
        "base_tokens_per_second": base,
        "idle_writes": writes,
    }


def kept_adapters(folder: Path, count: int) -> list[WantedAdapter]:
    """Makes adapters and keeps them as the adapter step does."""
    wanted = []
    base, artifacts = parse_source((folder / "model").as_uri()), parse_source((folder / "built").as_uri())
    for number in range(count):
        written = write_adapter(folder / "adapters" / str(number), seed=number)
        artifact = keep(base, parse_source(written.as_uri()), artifacts).artifact
        assert artifact
        wanted.append(
            WantedAdapter(
                name=f"tenant-{number}",
                artifact=artifact.uri,
                digest=artifact.digest,
                total_bytes=artifact.total_bytes,
            )
        )
    return wanted


def measure_loaded(folder: Path, server: Server, wanted: Sequence[WantedAdapter]) -> Loaded:
    """Has an agent that holds nothing load the adapters, asks them all, and unloads them again."""
    shutil.rmtree(folder / "kept", ignore_errors=True)
    agent = AgentProcess(folder, server.url, folder / "guard")
    began = time.monotonic()
    hashed = agent.want(*wanted)
    with agent.run():
        held = agent.settled(hashed, SECONDS_TO_LOAD)
        seconds = time.monotonic() - began
        failed = [each for each in held.values() if each.state is not AdapterState.LOADED]
        assert not failed, failed[:3]
        assert agent.process
        rss, engine_rss = rss_mib(agent.process.pid), tree_rss_mib(server)
        mixed = asked(server.url, [each.name for each in wanted])
        agent.settled(agent.want(), SECONDS_TO_LOAD)
    found = Loaded(len(wanted), seconds, rss, engine_rss, mixed)
    say(
        f"{found.adapters} adapters: all answer after {seconds:.1f} s, {mixed.output_throughput:.0f} tokens/s all mixed"
    )
    say(f"{found.adapters} adapters: agent {rss:.0f} MiB, engine {engine_rss:.0f} MiB")
    return found


def asked(url: str, models: Sequence[str]) -> Figures:
    """Asks the models in turn, SLOTS at once, as `ftm bench` does."""
    prompts = PromptSet(REQUESTS + 2 * SLOTS, TOKENS, seed=1, words=WORDS).prompts()
    settings = RequestSettings(url, KEY["Authorization"].removeprefix("Bearer "), ignore_eos=True)
    warm_up, measured = prompts[: 2 * SLOTS], prompts[2 * SLOTS :]
    found = asyncio.run(run(settings, models, warm_up, measured, RequestLoad(SLOTS), lambda *_: None))
    assert not found.errors, found.errors
    return found


def tokens_per_second(folder: Path, model: Path) -> float:
    """Serves a model without room for adapters, and asks it alone."""
    aside = folder / f"serving-{model.name}"
    aside.mkdir()
    (aside / "model").symlink_to(model)
    (aside / "guard").symlink_to(folder / "guard")
    sizes = {flag: size for flag, size in SIZES.items() if "lora" not in flag}
    with started(Server(aside, sizes=sizes)) as server:
        return asked(server.url, [BASE]).output_throughput


def merge(folder: Path) -> Path:
    """Merges the first adapter into the base, and returns the model's folder."""
    from ftm_jobs import __main__ as command_line

    store = folder / "merged-store"
    arguments = ["merge", "--base", (folder / "model").as_uri(), "--adapter", (folder / "adapters/0").as_uri()]
    with redirect_stdout(sys.stderr):
        assert command_line.main([*arguments, "--artifacts", store.as_uri()]) == 0
    (merged,) = (each for each in store.iterdir() if each.name.startswith("merge-"))
    return merged


@contextmanager
def started(server: Server) -> Iterator[Server]:
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / MIB


def tree_rss_mib(server: Server) -> float:
    """Returns the memory of the server and of all processes of its group."""
    assert server.process
    group = server.process.pid
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return sum(rss_mib(pid) for pid in pids if group_of(pid) == group)


def group_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[2])
    except (OSError, IndexError):
        return 0


def say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
