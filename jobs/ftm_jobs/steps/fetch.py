"""Runs the fetch step: the files of an artifact, or of a base, come to a local folder, each proven.

Where an engine finds its model by itself, only its guard is written.
"""

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.steps.arguments import add_report_file
from ftm_jobs.stores.source import Source, parse_source


def add_arguments(parser: ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--artifact", metavar="SOURCE", help="an artifact: <artifacts>/<key>")
    source.add_argument("--base", metavar="SOURCE", help="a base model, which is served as it is stored")
    parser.add_argument("--to", type=Path, metavar="DIR", help="the folder to fill; made if missing")
    parser.add_argument(
        "--without-weights",
        action="store_true",
        help="leave out an artifact's *.safetensors, which the engine streams; what the store says of them is checked",
    )
    parser.add_argument(
        "--guard", type=Path, metavar="DIR", help="also write the engine's guard and the agent's secret here"
    )
    _add_cache(parser)
    add_report_file(parser)


def _add_cache(parser: ArgumentParser) -> None:
    cache = parser.add_argument_group("a cache that the pods of a node share")
    cache.add_argument("--cache", type=Path, metavar="DIR", help="keep the files here, and only links to them in --to")
    cache.add_argument("--cache-size", type=int, default=0, metavar="BYTES", help="the most that the cache holds")
    cache.add_argument(
        "--bytes", type=int, default=0, metavar="BYTES", help="those of the files, for which room is made"
    )
    cache.add_argument("--pod", default="", metavar="NAME", help="of the pod's leases, which none other has: its UID")
    cache.add_argument("--compiled", metavar="NAME", help="also make the folder compiled/NAME for the engine")


def run(parsed: Namespace) -> Report:
    if parsed.guard:
        from ftm_jobs.serve.guard_files import write_guard

        write_guard(parsed.guard)
        if not parsed.artifact and not parsed.base:
            return Report(
                step=Step.FETCH,
                outcome=Outcome.DONE,
                reason=Reason.FETCHED,
                message=f"{parsed.guard} holds the engine's guard; its model is mounted",
            )
    if not parsed.to or not (parsed.artifact or parsed.base):
        raise InvalidInput(Reason.INVALID_URI, "there is nothing to fetch: write --artifact or --base, and --to")
    source = parse_source(parsed.base or parsed.artifact)
    bring = partial(_bring, parsed, source)
    if parsed.cache is None:
        return bring(parsed.to)
    from ftm_jobs.node_cache.fetch import PodsCache, WantedFiles, fetch_cached, use_compiled

    cache = PodsCache(parsed.cache.absolute(), parsed.cache_size, parsed.pod)
    if parsed.compiled:
        use_compiled(cache, parsed.compiled)
    return fetch_cached(cache, WantedFiles(source, parsed.bytes, bring), parsed.to.absolute())


def _bring(parsed: Namespace, source: Source, folder: Path) -> Report:
    if parsed.base:
        from ftm_jobs.serve.fetched_base import fetch_base

        return fetch_base(source, folder)
    if parsed.without_weights:
        from ftm_jobs.artifacts.beside_weights import fetch_beside_weights

        return fetch_beside_weights(source, folder)
    from ftm_jobs.artifacts.fetch import fetch

    return fetch(source, folder)
