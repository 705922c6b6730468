"""Measures the ways to serve a model in turn, with the same prompts: one engine runs, and the others are frozen.

Every round has prompts of its own, so that no engine's cache of prompts answers for it.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ftm_operator.benchmark.against_transformers import run_plain
from ftm_operator.benchmark.figures import Figures
from ftm_operator.benchmark.load import RequestLoad, run
from ftm_operator.benchmark.prompts import BenchmarkPrompt, PromptSet
from ftm_operator.benchmark.streaming import RequestSettings
from tests.bench.served.engines import Engine, llama_engine, load_adapter, started, thawed, vllm_engine
from tests.bench.served.figures import MeasuredWay
from tests.bench.served.models import ADAPTER, AT_ONCE, NAME
from tests.bench.served.pods import ServedFiles

WORDS, TOKENS, WARM_UP_TOKENS = (48, 64), 32, 4

Answer = Callable[[Sequence[BenchmarkPrompt], Sequence[BenchmarkPrompt]], Figures]
"""Answers a round's prompts, after those that warm up."""


@dataclass(frozen=True)
class Way:
    """One way to answer prompts."""

    title: str
    at_once: int
    answer: Answer


def prompts_of(number: int) -> tuple[list[BenchmarkPrompt], list[BenchmarkPrompt]]:
    """Returns the prompts of a round: those that warm up, and those that are measured."""
    prompts = PromptSet(2 * AT_ONCE, TOKENS, seed=number, words=WORDS).prompts()
    return [replace(each, most_tokens=WARM_UP_TOKENS) for each in prompts[:AT_ONCE]], prompts[AT_ONCE:]


def measure_ways(files: ServedFiles, merged: Engine, folder: Path, threads: int, rounds: int) -> dict[str, MeasuredWay]:
    """Measures all ways, so many rounds; `merged` runs already, and runs on afterwards."""
    merged.freeze()
    built = files.built
    with ExitStack() as engines:

        def frozen(engine: Engine) -> Engine:
            engines.enter_context(started(engine)).await_ready()
            engine.freeze()
            return engine

        dynamic = frozen(vllm_engine(built.dynamic, files.dynamic, folder / "dynamic.log"))
        with thawed(dynamic):
            load_adapter(dynamic, files.dynamic.guard, ADAPTER, files.adapter.model)
        by_awq: dict[str, Way] = {}
        if files.awq:
            awq = frozen(vllm_engine(built.merged, files.awq, folder / "awq.log"))
            by_awq = {"awq": Way("merged, AWQ 4 bits, vLLM", AT_ONCE, asked(awq, NAME))}
        llama = frozen(llama_engine(built.gguf, files.gguf, threads, folder / "gguf.log"))
        ways = {
            "merged": Way("merged, vLLM", AT_ONCE, asked(merged, NAME)),
            "dynamic": Way("base and adapter, vLLM", AT_ONCE, asked(dynamic, ADAPTER)),
            **by_awq,
            "gguf": Way("merged, GGUF Q8_0, llama-server", AT_ONCE, asked(llama, NAME)),
            "hf": Way("merged, transformers", 1, generated(files.warm.model)),
        }
        measured = in_turn(ways, rounds)
    merged.thaw()
    return measured


def in_turn(ways: dict[str, Way], rounds: int) -> dict[str, MeasuredWay]:
    """Measures each way once a round."""
    figures: dict[str, list[Figures]] = {key: [] for key in ways}
    for number in range(rounds):
        for key, way in ways.items():
            found = way.answer(*prompts_of(number))
            assert not found.errors, found.errors
            assert found.output_tokens == AT_ONCE * TOKENS, f"{way.title} answered with {found.output_tokens} tokens"
            say(f"round {number + 1} of {rounds}: {way.title}: {found.output_throughput:.1f} tokens/s")
            figures[key].append(found)
    return {key: MeasuredWay(way.title, way.at_once, tuple(figures[key])) for key, way in ways.items()}


def asked(engine: Engine, model: str) -> Answer:
    """Returns what asks an engine, which is frozen before and afterwards, by the client of `ftm bench`."""

    def answer(warm_up: Sequence[BenchmarkPrompt], prompts: Sequence[BenchmarkPrompt]) -> Figures:
        settings = RequestSettings(engine.url, ignore_eos=True)
        with thawed(engine):
            return asyncio.run(run(settings, [model], warm_up, prompts, RequestLoad(AT_ONCE), lambda *_: None))

    return answer


def generated(folder: Path) -> Answer:
    """Returns what answers by plain transformers, in a process of its own, as `ftm bench --against hf` does."""

    def answer(_warm_up: Sequence[BenchmarkPrompt], prompts: Sequence[BenchmarkPrompt]) -> Figures:
        return run_plain(folder, prompts, completions=False, ignore_eos=True, progress=lambda *_: None)

    return answer


def say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
