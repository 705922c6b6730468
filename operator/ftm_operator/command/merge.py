"""Merges adapters into a base by the Jobs' own step: `ftm merge`."""

import json
from typing import Annotated

import typer

from ftm_jobs.contract.keys import OutputDtype, QuantizedBase
from ftm_jobs.contract.steps import Step
from ftm_jobs.contract.tasks import ClassifierTask
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
    report = local.run_command(Step.MERGE, [*source_flags(base, adapter), "--out", source(out), *flags])
    local.say_notes(report)
    if output is OutputFormat.JSON:
        print(json.dumps(report.to_json(), indent=2))
    else:
        print(report.message)
