"""Runs one step of a build, as a Job or a person asks for it: `python -m ftm_jobs --help`."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from ftm_jobs.contract.manifest import Catalogue, MergePreview
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import EXIT_CODES, Outcome, Step
from ftm_jobs.contract.verification import ServedVerification
from ftm_jobs.errors import Interrupted, Reason, StepError
from ftm_jobs.runtime.caller import more_memory
from ftm_jobs.runtime.logs import LOGGER, log_to_stderr
from ftm_jobs.runtime.os_errors import words
from ftm_jobs.runtime.out_of_memory import is_out_of_memory
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.steps.arguments import SOURCES_HELP
from ftm_jobs.steps.commands import COMMANDS, Command

DESCRIPTION = """\
Run one step of a build, as a Job or a person asks for it.

The report is JSON: the last line of stdout, and the file of --report. Exit code 0 means done, 2 that the input is
wrong and a retry is useless, 1 anything else. Progress goes to stderr.
"""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_AGAIN_SECONDS = 0.01
_log = logging.getLogger(LOGGER)


def main(arguments: Sequence[str] | None = None, commands: Sequence[Command] = COMMANDS) -> int:
    """Runs one step, prints its report and returns its exit code."""
    log_to_stderr()
    command, parsed = _parse(sys.argv[1:] if arguments is None else arguments, commands)
    report = _report(command, parsed)
    if isinstance(report, Report):
        line = report.termination_message()
    else:
        line = report.model_dump_json(by_alias=True, exclude_none=True)
    if parsed.report:
        try:
            parsed.report.write_text(line)
        except OSError as error:
            _log.error("--report %s cannot be written: %s", parsed.report, words(error))
    Progress.end_line()
    with contextlib.suppress(BrokenPipeError):  # whoever asked is gone
        print(line, flush=True)
    return int(EXIT_CODES[report.outcome])


def _parse(arguments: Sequence[str], commands: Sequence[Command]) -> tuple[Command, argparse.Namespace]:
    """Returns the command that is asked for, whose module alone is imported, and its parsed arguments.

    Raises SystemExit for --help and for arguments that are wrong.
    """
    names = "|".join(command.name for command in commands)
    parser = argparse.ArgumentParser(
        prog="python -m ftm_jobs", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(required=True, metavar=names)
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    for command in commands:
        subparser = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=SOURCES_HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subparser.set_defaults(command=command)
        if command.name == asked:
            command.load().add_arguments(subparser)
    parsed = parser.parse_args(arguments)
    return parsed.command, parsed


def _report(command: Command, parsed: argparse.Namespace) -> Report | Catalogue | MergePreview | ServedVerification:
    """Returns the step's report, whatever happens."""
    start = time.monotonic()
    step = command.step
    try:
        report = command.load().run(parsed)
        if not isinstance(report, Report):
            return report
    except StepError as error:
        report = Report(step=step, outcome=error.outcome, reason=error.reason, message=error.message)
    except Interrupted:
        report = _failed(step, Reason.INTERRUPTED, "the step was stopped before it was done; run it again")
    except Exception as error:  # noqa: BLE001 - whatever happens, the operator gets a report
        if is_out_of_memory(error):
            report = _failed(step, Reason.OUT_OF_MEMORY, f"memory ran out: {more_memory()}")
        else:
            _log.exception("the step ended by an error of the program itself")
            text = words(error) if isinstance(error, OSError) else " ".join(str(error).split())
            report = _failed(step, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {text} (the log has the traceback)")
    return report.model_copy(update={"seconds": round(time.monotonic() - start, 3)})


def _failed(step: Step, reason: Reason, message: str) -> Report:
    return Report(step=step, outcome=Outcome.FAILED, reason=reason, message=message)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise Interrupted


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Raises Interrupted anew that came where Python drops what is raised, as in a weak reference's callback."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)
        return
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def _run_process() -> int:
    """Returns the exit code of this process, whose signals end the step in good order."""
    sys.unraisablehook = _interrupt_again
    try:
        for number in _SIGNALS:
            signal.signal(number, _interrupt)
        return main()
    except Interrupted:  # before there was a step that could report it
        return int(EXIT_CODES[Outcome.FAILED])


if __name__ == "__main__":
    code = _run_process()
    sys.stderr.flush()
    os._exit(code)  # threads that still wait for the network must not hold the process
