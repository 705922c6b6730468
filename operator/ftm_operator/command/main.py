"""Runs the `ftm` command: the list of its commands, and the exit code of each error."""

import sys

import typer

from ftm_operator.api.errors import InvalidManifest
from ftm_operator.command.artifacts import artifacts
from ftm_operator.command.crd import crd
from ftm_operator.command.explain import explain
from ftm_operator.command.inspect import inspect
from ftm_operator.command.merge import merge
from ftm_operator.command.plan import plan
from ftm_operator.command.report import report
from ftm_operator.command.run import run
from ftm_operator.local.errors import LocalError

COMMANDS = (run, plan, inspect, merge, report, explain, crd)
GROUPS = {"artifacts": artifacts}
ERRORS = (InvalidManifest, LocalError)
"""Errors that end the command with a sentence on stderr and the exit code of their class."""
INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells write it."""


def application() -> typer.Typer:
    """Returns the command with all its commands, in the order that `ftm --help` lists them."""
    app = typer.Typer(
        help="Turn a base model and a LoRA adapter into a served model.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for command in COMMANDS:
        app.command()(command)
    for name, group in GROUPS.items():
        app.add_typer(group, name=name)
    return app


def main() -> None:
    """Runs the command that the arguments name, and exits with its code."""
    try:
        application()()
    except ERRORS as error:
        print(f"ftm: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
