"""Runs the merge step: a base and its adapters become one model."""

import importlib
import sys
import threading
from argparse import ArgumentParser, Namespace

from ftm_jobs.checkpoint.output_layout import parse_file_size
from ftm_jobs.contract.keys import ClassifierTask, OutputDtype, QuantizedBase
from ftm_jobs.contract.manifest import MergePreview
from ftm_jobs.contract.report import Report
from ftm_jobs.merge.artifact import merge, merge_to
from ftm_jobs.merge.inputs import load_inputs
from ftm_jobs.merge.plan import MergeChoices
from ftm_jobs.steps.arguments import add_base_and_adapters, add_report_file, base_and_adapters
from ftm_jobs.stores import open_artifacts
from ftm_jobs.stores.source import parse_source

IMPORTING_SWITCH_SECONDS = 0.0001
"""Time for which a thread keeps the interpreter while torch is imported beside it."""


def add_arguments(parser: ArgumentParser) -> None:
    add_base_and_adapters(parser, adapter_required=True)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--artifacts", metavar="SOURCE", help="where artifacts are: the result is <artifacts>/<key>/")
    target.add_argument("--out", metavar="SOURCE", help="an empty folder: the result is exactly there")
    parser.add_argument(
        "--quantized-base",
        type=QuantizedBase,
        choices=[*QuantizedBase],
        default=QuantizedBase.FULL_PRECISION,
        help="what a QLoRA adapter is added to: the base as stored, or as 4-bit NormalFloat (NF4, blocks of 64, "
        "without double quantization) leaves its adapted Linear layers; default %(default)s",
    )
    parser.add_argument(
        "--max-shard-size",
        metavar="SIZE",
        help="of the output's weight files, as in 5GB, 500MB or 2GiB: a tensor that is larger has a file of its own; "
        "default: the base's files are kept",
    )
    parser.add_argument(
        "--task",
        type=ClassifierTask,
        choices=[*ClassifierTask],
        help="make a classifier of the base, with the head that an adapter trained beside it; no chat engine serves "
        "one; default: a model of the base's class",
    )
    parser.add_argument(
        "--dtype",
        type=OutputDtype,
        choices=[*OutputDtype],
        help="of all floating tensors of the output: one that is stored in another dtype is merged as PEFT merges a "
        "base that is loaded in float32, and rounded once; default: each keeps the base's",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing and read no weights: say what would be merged, into which files, or why not",
    )
    add_report_file(parser)


def run(parsed: Namespace) -> Report | MergePreview:
    base, adapters = base_and_adapters(parsed)
    max_shard_size = None if parsed.max_shard_size is None else parse_file_size(parsed.max_shard_size)
    choices = MergeChoices(parsed.quantized_base, max_shard_size, parsed.task, parsed.dtype)
    target = parse_source(parsed.artifacts if parsed.out is None else parsed.out)
    if parsed.dry_run:
        from ftm_jobs.steps.runs.merge_preview import preview

        return preview([base, *adapters], choices, target, keyed=parsed.out is None)
    import_torch_meanwhile()
    inputs = load_inputs(base, adapters, choices)
    if parsed.out is None:
        return merge(inputs, open_artifacts(target))
    return merge_to(inputs, open_artifacts(target))


def import_torch_meanwhile() -> None:
    """Begins to import torch, which takes seconds, in a thread.

    Meanwhile sources are listed and hashed, and files that no adapter changes are written.
    """

    def work() -> None:
        usual = sys.getswitchinterval()
        sys.setswitchinterval(IMPORTING_SWITCH_SECONDS)  # else other threads wait 5 ms each time for the interpreter
        try:
            importlib.import_module("ftm_jobs.merge.row_changes")
        finally:
            sys.setswitchinterval(usual)

    threading.Thread(target=work).start()
