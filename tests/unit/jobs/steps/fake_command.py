"""Stands for a command of `python -m ftm_jobs`: it does what its argument says."""

from argparse import ArgumentParser, Namespace

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.steps.arguments import add_report_file


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--do", required=True, choices=["work", "refuse", "break"], help="how it ends")
    add_report_file(parser)


def run(parsed: Namespace) -> Report:
    if parsed.do == "refuse":
        raise InvalidInput(Reason.MISSING_FILE, "a sentence")
    if parsed.do == "break":
        raise RuntimeError("a fault")
    return Report(step=Step.FETCH, outcome=Outcome.DONE, reason=Reason.FETCHED, message="done")
