"""Runs the adapter step: an adapter that fits its base is kept, as an engine loads it unmerged."""

from argparse import ArgumentParser, Namespace

from ftm_jobs.contract.keys import AdapterEngine
from ftm_jobs.contract.report import Report
from ftm_jobs.steps.arguments import add_report_file
from ftm_jobs.stores.source import parse_source


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--base", required=True, metavar="SOURCE", help="the base model beside which it is served")
    parser.add_argument("--adapter", required=True, metavar="SOURCE", help="the LoRA adapter")
    parser.add_argument(
        "--artifacts", required=True, metavar="SOURCE", help="where artifacts are: the result is <artifacts>/<key>/"
    )
    parser.add_argument(
        "--engine",
        type=AdapterEngine,
        choices=[*AdapterEngine],
        default=AdapterEngine.VLLM,
        help="the engine that is to load it; llama.cpp's converter is in an image of its own; default %(default)s",
    )
    add_report_file(parser)


def run(parsed: Namespace) -> Report:
    from ftm_jobs.steps.runs.kept_adapter import keep

    base, adapter, artifacts = map(parse_source, (parsed.base, parsed.adapter, parsed.artifacts))
    return keep(base, adapter, artifacts, parsed.engine)
