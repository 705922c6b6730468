"""Runs the fetch step: an artifact's files come to a local folder, each proven by its sha256."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ftm_jobs.contract.report import Report
from ftm_jobs.steps.arguments import add_report_file
from ftm_jobs.stores.source import parse_source


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--artifact", required=True, metavar="SOURCE", help="an artifact: <artifacts>/<key>")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR", help="the folder to fill; made if missing")
    add_report_file(parser)


def run(parsed: Namespace) -> Report:
    from ftm_jobs.artifacts.fetch import fetch

    return fetch(parse_source(parsed.artifact), parsed.to)
