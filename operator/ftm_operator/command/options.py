"""Holds the options and arguments that several commands of `ftm` share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

LONGEST_SUMMARY = 200


class OutputFormat(StrEnum):
    """A table for people, or JSON for programs."""

    TABLE = "table"
    JSON = "json"


class WholeSummary(TyperCommand):
    """A command whose first sentence is not cut in a list of commands, where click leaves 45 characters of it."""

    def get_short_help_str(self, limit: int = LONGEST_SUMMARY) -> str:
        return super().get_short_help_str(max(limit, LONGEST_SUMMARY))


OutputOption = Annotated[OutputFormat, typer.Option("-o", "--output", help="How the result is printed.")]
ManifestArgument = Annotated[Path, typer.Argument(metavar="MANIFEST", help="A YAML file with one FineTunedModel.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A FineTunedModel in the cluster.")]
NamespaceOption = Annotated[
    str | None, typer.Option("-n", "--namespace", help="The namespace it is in; else the kubeconfig's current one.")
]
