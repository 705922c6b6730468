"""Runs what a pod does for its node's cache beside fetching: it says what it uses, and makes a folder its user's."""

from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import Interrupted, Reason
from ftm_jobs.steps.arguments import add_report_file
from ftm_jobs.stores.source import parse_source


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--cache", required=True, type=Path, metavar="DIR", help="the cache")
    does = parser.add_mutually_exclusive_group(required=True)
    does.add_argument(
        "--give-to", metavar="USER:GROUP", help="make the folder, which is empty, that user's; takes root"
    )
    does.add_argument("--hold", metavar="SOURCE", help="keep an artifact or a base from being removed, until stopped")
    parser.add_argument("--compiled", metavar="NAME", help="what an engine compiled, which --hold keeps too")
    parser.add_argument("--pod", default="", metavar="NAME", help="of the pod's leases, with --hold: its UID")
    add_report_file(parser)


def run(parsed: Namespace) -> Report:
    from ftm_jobs.node_cache.fetch import artifact_entry, compiled_entry
    from ftm_jobs.node_cache.hold import hold
    from ftm_jobs.node_cache.owner import give_to

    if parsed.give_to:
        user, group = (int(part) for part in parsed.give_to.split(":"))
        given = give_to(parsed.cache, user, group)
        done = f"{parsed.cache} {'is now' if given else 'was already'} user {user}'s"
        return Report(step=Step.CACHE, outcome=Outcome.DONE, reason=Reason.CACHE_READY, message=done)
    entries = [artifact_entry(parsed.cache, parse_source(parsed.hold))]
    entries += [compiled_entry(parsed.cache, parsed.compiled)] if parsed.compiled else []
    with suppress(Interrupted):
        hold(entries, parsed.pod)
    held = f"{parsed.cache} may remove {' and '.join(entry.name for entry in entries)} as far as this pod goes"
    return Report(step=Step.CACHE, outcome=Outcome.DONE, reason=Reason.CACHE_RELEASED, message=held)
