"""Runs `artifacts list|show|verify|gc`, by which people look after a store of artifacts."""

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime

from ftm_jobs.contract.manifest import Catalogue
from ftm_jobs.stores.source import parse_source


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|verify|gc")

    def action(name: str, summary: str) -> ArgumentParser:
        added = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        added.add_argument("store", metavar="STORE", help="where artifacts are, a SOURCE")
        added.set_defaults(report=None)
        return added

    action("list", "show every artifact, complete or not")
    action("show", "show one artifact's manifest").add_argument("key", metavar="KEY")
    action("verify", "read every file and prove its sha256").add_argument(
        "key", metavar="KEY", nargs="*", help="all complete artifacts without one"
    )
    gc = action("gc", "remove complete artifacts that are not kept, and incomplete ones that nobody wrote to for a day")
    gc.add_argument("--keep", metavar="KEY", nargs="+", required=True, help="artifacts that something refers to")
    gc.add_argument("--delete", action="store_true", help="do it; without this only say what would be done")


def run(parsed: Namespace) -> Catalogue:
    from ftm_jobs.artifacts import catalogue

    store = parse_source(parsed.store)
    match parsed.action:
        case "list":
            return catalogue.list_artifacts(store)
        case "show":
            return catalogue.show(store, parsed.key)
        case "verify":
            return catalogue.verify(store, parsed.key)
        case _:
            return catalogue.gc(store, set(parsed.keep), datetime.now(UTC), delete=parsed.delete)
