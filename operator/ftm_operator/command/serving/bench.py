"""Measures how fast a served model answers: `ftm bench`."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ftm_operator.benchmark.against_transformers import check_installed, run_plain
from ftm_operator.benchmark.load import RequestLoad, run
from ftm_operator.benchmark.page import render_benchmark
from ftm_operator.benchmark.prompts import PromptSet, word_range
from ftm_operator.benchmark.results import (
    BACKENDS,
    BenchmarkResult,
    comparison_json,
    format_comparison,
    format_result,
)
from ftm_operator.benchmark.streaming import RequestSettings
from ftm_operator.command.options import NamespaceOption, OutputFormat, OutputOption
from ftm_operator.command.serving.bench_progress import shown_progress
from ftm_operator.command.serving.endpoint import NamedEndpoint, check_served, named_endpoint
from ftm_operator.local import steps as local
from ftm_operator.local.errors import LocalError, WrongUse
from ftm_operator.local.paths import exists

ALL_ADAPTERS = "all"
DEFAULT_CONCURRENCY = 8


class Baseline(StrEnum):
    """The other ways to answer the same prompts on this machine."""

    TRANSFORMERS = "hf"


@dataclass(frozen=True)
class BenchmarkOptions:
    """Everything that the command line asks for, but for the endpoints."""

    prompts: PromptSet
    load: RequestLoad
    warm_up: int
    model: str | None
    adapters: str | None
    completions: bool
    ignore_eos: bool
    timeout_seconds: float
    namespace: str | None


def bench(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="NAME|URL|MANIFEST...", help="A FineTunedModel, an endpoint, or a file to serve here."),
    ],
    compare: Annotated[
        bool, typer.Option("--compare", help="Measure two endpoints, A and B, and print A's figures by B's.")
    ] = False,
    against: Annotated[
        Baseline | None, typer.Option(help="Answer the same prompts by transformers on this machine, too.")
    ] = None,
    requests: Annotated[int, typer.Option("-N", "--requests", min=1, help="How many are measured.")] = 100,
    concurrency: Annotated[
        int | None, typer.Option("-c", "--concurrency", min=1, help="The most at once; 8 unless --rate is there.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Requests per second, at the random times of a Poisson process.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Lines of {prompt} or {messages}, and max_tokens.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="The prompt of every request.")] = None,
    words: Annotated[str, typer.Option(metavar="N|N-M", help="The length of random prompts.")] = "128",
    output_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of an answer.")] = 128,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Let each answer have that many, where the engine knows how.")
    ] = False,
    warm_up: Annotated[int, typer.Option(min=0, help="Requests before, which are not measured.")] = 5,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The value of `model`.")] = None,
    adapters: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME|all", help="Spread requests over these values of `model`, in turn."),
    ] = None,
    completions: Annotated[
        bool, typer.Option("--completions", help="Ask /v1/completions, which needs no chat template.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="For a whole answer.")] = 600,
    seed: Annotated[int, typer.Option(help="Other random words and times.")] = 0,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with plots.")] = None,
    detailed: Annotated[bool, typer.Option("--detailed", help="Each request's figures in the JSON, too.")] = False,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Measure how fast a served model answers: throughput, time to first token, time per token, errors.

    Requests are greedy, and answers are streamed. The JSON has the keys of `vllm bench serve`. A key of the endpoint
    is read from OPENAI_API_KEY. A FineTunedModel of the cluster is reached by kubectl port-forward.
    """
    _check_targets(targets, compare=compare, against=against)
    if prompts and prompt is not None:
        raise WrongUse("--prompts and --prompt are both there; keep one of them")
    at_once = concurrency or (None if rate else DEFAULT_CONCURRENCY)
    options = BenchmarkOptions(
        PromptSet(requests + warm_up, output_tokens, seed, prompts, prompt, word_range(words)),
        RequestLoad(at_once, rate, seed),
        warm_up,
        model,
        adapters,
        completions,
        ignore_eos,
        timeout,
        namespace,
    )
    results = [measure(target, options, against) for target in targets]
    flat = [result for each in results for result in each]
    if html:
        html.write_text(render_benchmark(flat), encoding="utf-8")
        local.say(f"page {html}")
    print(_shown(flat, output, detailed=detailed))
    if not all(each.figures.completed for each in flat):
        raise typer.Exit(LocalError.exit_code)


def measure(target: str, options: BenchmarkOptions, against: Baseline | None) -> list[BenchmarkResult]:
    """Returns the endpoint's result, and after it that of the baseline if one is asked for. Raises LocalError."""
    prompts = options.prompts.prompts()
    warm_up, measured = prompts[: options.warm_up], prompts[options.warm_up :]
    if options.completions and any(each.text is None for each in prompts):
        raise WrongUse("--completions sends texts, and a line of --prompts has messages; write prompt there")
    with named_endpoint(target, options.namespace) as endpoint:
        models = models_of(endpoint, options)
        settings = RequestSettings(
            endpoint.url, endpoint.api_key, options.completions, options.ignore_eos, options.timeout_seconds
        )
        folder = _folder(endpoint) if against else None
        began = datetime.now(UTC)
        with shown_progress(target, len(measured)) as progress:
            figures = asyncio.run(run(settings, models, warm_up, measured, options.load, progress))
    remarks = (endpoint.note,) if endpoint.note else ()
    backend = BACKENDS[options.completions]
    result = BenchmarkResult(target, backend, models, began, options.load, figures, remarks)
    if folder is None:
        return [result]
    began = datetime.now(UTC)
    with shown_progress("transformers", len(measured)) as progress:
        plain = run_plain(
            folder, measured, completions=options.completions, ignore_eos=options.ignore_eos, progress=progress
        )
    title = f"transformers with {folder}"
    return [result, BenchmarkResult(title, "transformers", ("transformers",), began, RequestLoad(1), plain)]


def models_of(endpoint: NamedEndpoint, options: BenchmarkOptions) -> tuple[str, ...]:
    """Returns the values of `model` that requests are spread over. Raises WrongUse naming those that there are."""
    if options.adapters == ALL_ADAPTERS:
        chosen = [each.name for each in endpoint.models if each.parent]
        if not chosen:
            listed = ", ".join(each.name for each in endpoint.models)
            raise WrongUse(f"{endpoint.title} serves no adapters; it lists {listed}")
    elif options.adapters:
        chosen = [name.strip() for name in options.adapters.split(",")]
    else:
        chosen = [options.model or endpoint.model]
    check_served(endpoint, chosen)
    return tuple(chosen)


def _check_targets(targets: Sequence[str], *, compare: bool, against: Baseline | None) -> None:
    """Raises WrongUse where the targets are not as many as are measured."""
    if compare and len(targets) != 2:
        raise WrongUse(f"--compare takes two endpoints, and here are {len(targets)}; write --compare A B")
    if not compare and len(targets) != 1:
        raise WrongUse(f"here are {len(targets)} endpoints; write one, or --compare A B")
    if compare and against:
        raise WrongUse("--compare and --against are both there; keep one of them")
    if against:
        check_installed()


def _folder(endpoint: NamedEndpoint) -> Path:
    """Returns a folder with the merged model for transformers. Raises WrongUse where none is known."""
    if endpoint.merged:
        return local.fetch(endpoint.merged)
    root = next((each.root for each in endpoint.models if each.name == endpoint.model), None)
    if root and exists(root):
        return Path(root)
    raise WrongUse(
        f"--against hf needs the model's folder, and {endpoint.title} is served from {root or 'an unknown one'}, "
        "which is not here; name a FineTunedModel, a manifest, or an endpoint of this machine"
    )


def _shown(results: Sequence[BenchmarkResult], output: OutputFormat, *, detailed: bool) -> str:
    if output is OutputFormat.JSON:
        one = results[0].to_json(detailed=detailed) if len(results) == 1 else None
        return json.dumps(one or comparison_json(*results, detailed=detailed), indent=2)
    return format_result(results[0]) if len(results) == 1 else format_comparison(*results)
