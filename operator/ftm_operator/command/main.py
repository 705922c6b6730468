"""Runs the `ftm` command: the list of its commands, and the exit code of each error.

What a command needs is imported once signals are handled, since that takes a second in which Ctrl-C can come.
"""

import contextlib
import sys
from typing import TYPE_CHECKING

from ftm_operator.local.errors import LocalError, Stopped
from ftm_operator.local.processes import end_on_signals, stop_on_signals

if TYPE_CHECKING:
    import typer


def application() -> "typer.Typer":
    """Returns the command with all its commands, in the order that `ftm --help` lists them."""
    import typer

    from ftm_operator.command.artifacts import artifacts
    from ftm_operator.command.crd import crd
    from ftm_operator.command.explain import explain
    from ftm_operator.command.inspect import inspect
    from ftm_operator.command.merge import merge
    from ftm_operator.command.options import WholeSummary
    from ftm_operator.command.plan import plan
    from ftm_operator.command.report import report
    from ftm_operator.command.serving.adapters import adapters
    from ftm_operator.command.serving.bench import bench
    from ftm_operator.command.serving.chat import chat
    from ftm_operator.command.serving.promote import promote
    from ftm_operator.command.serving.rollback import rollback
    from ftm_operator.command.serving.run import run
    from ftm_operator.command.serving.versions import versions

    app = typer.Typer(
        help="Turn a base model and a LoRA adapter into a served model.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    serving = (run, chat, bench, adapters, versions, rollback, promote)
    for command in (*serving, plan, inspect, merge, report, explain, crd):
        app.command(cls=WholeSummary)(command)
    app.add_typer(artifacts, name="artifacts")
    return app


def main() -> None:
    """Runs the command that the arguments name, and exits with its code."""
    stop_on_signals()
    try:
        _run()
    except Stopped as stopped:
        end_on_signals()
        with contextlib.suppress(OSError):  # a terminal that was closed
            print(f"ftm: {stopped.message}", file=sys.stderr, flush=True)
        sys.exit(stopped.exit_code)


def _run() -> None:
    from ftm_operator.api.errors import InvalidManifest

    try:
        application()()
    except (InvalidManifest, LocalError) as error:
        print(f"ftm: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"ftm: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(LocalError.exit_code)
