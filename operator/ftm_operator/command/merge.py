"""Merges adapters into a base by the Jobs' own step: `ftm merge`."""

import json
from typing import Annotated

import typer

from ftm_jobs.contract.byte_counts import format_bytes_in_column as column
from ftm_jobs.contract.keys import ClassifierTask, OutputDtype, QuantizedBase
from ftm_jobs.contract.manifest import MergePreview
from ftm_jobs.contract.steps import Step
from ftm_operator.command.inspect import format_facts
from ftm_operator.command.options import OutputFormat, OutputOption
from ftm_operator.command.sources import ADAPTER_HELP, ADAPTER_METAVAR, URI_HELP, source, source_flags
from ftm_operator.local import steps as local


def merge(
    base: Annotated[str, typer.Option(metavar="URI", help=f"The base model: {URI_HELP}.")],
    adapter: Annotated[list[str], typer.Option(metavar=ADAPTER_METAVAR, help=ADAPTER_HELP)],
    out: Annotated[str, typer.Option(metavar="URI", help="An empty folder, s3://bucket/prefix or a path.")],
    quantized_base: Annotated[
        QuantizedBase,
        typer.Option(help="The weights that a QLoRA adapter is added to: the base as it is, or as 4 bits leave it."),
    ] = QuantizedBase.FULL_PRECISION,
    max_shard_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="The largest weight file, as in 5GB or 2GiB; without it the base's."),
    ] = None,
    task: Annotated[
        ClassifierTask | None,
        typer.Option(help="Make a classifier, with the head that an adapter trained: no chat engine serves one."),
    ] = None,
    dtype: Annotated[
        OutputDtype | None,
        typer.Option(help="Of all weights; those stored in another are merged in float32 and rounded once."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="hf://org/name[@branch]",
            help="Then upload the folder there, with a model card; a repository that is new is made private.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be merged, or why not; no weights are read.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Merge adapters into a base and write the model to exactly one folder.

    The folder must be empty or hold this same merge: run again, a merge that was stopped is finished and one that is
    complete does nothing.
    """
    flags = [] if quantized_base is QuantizedBase.FULL_PRECISION else ["--quantized-base", quantized_base]
    flags += [] if max_shard_size is None else ["--max-shard-size", max_shard_size]
    flags += [] if task is None else ["--task", task]
    flags += [] if dtype is None else ["--dtype", dtype]
    arguments = [*source_flags(base, adapter), "--out", source(out), *flags]
    if dry_run:
        _show(local.preview_merge(arguments), output)
        return
    if push is not None and "://" in out and not out.startswith("file://"):
        raise typer.BadParameter("--push uploads a folder on this machine; give --out a path")
    report = local.run_command(Step.MERGE, arguments)
    local.say_notes(report)
    if push is not None:
        folder = source(out)
        pushed = local.run_command(Step.PUSH, ["--model", folder, "--to", push, "--base", source(base)])
        local.say(pushed.message)
    if output is OutputFormat.JSON:
        print(json.dumps(report.to_json(), indent=2))
    else:
        print(report.message)


def format_preview(preview: MergePreview) -> str:
    """Returns what a merge would do as a table: its sources, what it changes, and each file that it would write."""
    weights = preview.facts.base.weight_bytes + sum(adapter.weight_bytes for adapter in preview.facts.adapters)
    lines = {
        "output": preview.destination,
        "  holds": preview.state,
        "  key": preview.key or f"not known before {column(weights)} of weights are hashed",
        "  scales": ", ".join(f"{scale:g}" for scale in preview.scales),
        "  changes": f"{preview.weights_changed} weights",
    }
    width = max(len(file.path) for file in preview.files)
    files = [f"  {file.path:<{width}}  {column(file.size):>10}  {file.made}" for file in preview.files]
    total = f"{len(preview.files)} files, {column(preview.total_bytes)}; nothing was written"
    return "\n".join(
        [format_facts(preview.facts), *(f"{name:<16} {value}" for name, value in lines.items()), *files, total]
    )


def _show(preview: MergePreview, output: OutputFormat) -> None:
    for note in preview.notes:
        local.say(f"note: {note}")
    print(json.dumps(preview.to_json(), indent=2) if output is OutputFormat.JSON else format_preview(preview))
