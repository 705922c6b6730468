"""The list of commands: each has what the frame needs of it, and a new one is a row and a module."""

import json
import subprocess
import sys
from argparse import ArgumentParser

import pytest

from ftm_jobs.__main__ import main
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_jobs.steps.commands import COMMANDS, Command
from tests.unit.jobs.steps.test_command_line import WITHOUT_LIBRARIES

FAKE = Command("fake", Step.FETCH, "tests.unit.jobs.steps.fake_command", "stand for a command")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_a_summary_a_step_arguments_and_a_run(command: Command) -> None:
    parser = ArgumentParser()
    command.load().add_arguments(parser)
    assert callable(command.load().run)
    assert isinstance(command.step, Step)
    assert command.summary
    assert not command.summary[0].isupper()
    assert not command.summary.endswith(".")
    for action in parser._actions:
        assert action.help or action.metavar == "list|show|verify|gc", action.option_strings


def test_the_commands_cover_every_step_once_but_for_two_ways_to_quantize() -> None:
    assert sorted(command.step for command in COMMANDS) == sorted([*Step, Step.QUANTIZE])
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_shows_its_help_in_an_image_without_the_libraries_of_its_work(command: Command) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBRARIES, command.name, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{command.summary[0].upper()}{command.summary[1:]}." in " ".join(done.stdout.split())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_only_the_command_that_is_asked_for_is_imported(command: Command) -> None:
    script = (
        "import sys\nfrom ftm_jobs.__main__ import main\n"
        f"try:\n    main(['{command.name}', '--help'])\nexcept SystemExit:\n    print('\\n', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = {other.name for other in COMMANDS if other.module in done.stdout.splitlines()[-1].split()}
    assert imported == {command.name}


@pytest.mark.parametrize(
    ("do", "code", "reason", "message"),
    [
        ("work", 0, "Fetched", "done"),
        ("refuse", 2, "MissingFile", "a sentence"),
        ("break", 1, "InternalError", "RuntimeError: a fault (the log has the traceback)"),
    ],
)
def test_a_new_command_is_one_row_and_its_end_is_reported(
    do: str, code: int, reason: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fake", "--do", do], (*COMMANDS, FAKE)) == code
    printed = capsys.readouterr()
    report = Report.model_validate_json(printed.out)
    assert (report.step, report.reason, report.message) == (Step.FETCH, reason, message)
    assert ("Traceback" in printed.err) == (do == "break")


def test_a_new_command_is_shown_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"], (*COMMANDS, FAKE))
    assert "stand for a command" in capsys.readouterr().out


def test_what_is_logged_goes_to_stderr_as_plain_lines_and_stdout_holds_the_report_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["fake", "--do", "work", "--report", "/nowhere/report"], (FAKE,)) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["reason"] == "Fetched"
    assert printed.err.startswith("--report /nowhere/report cannot be written: ")
    assert printed.err.count("\n") == 1
