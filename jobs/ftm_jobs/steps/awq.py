"""Runs the quantize step for vLLM: a merged model becomes a 4-bit AWQ model."""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace

from ftm_jobs.contract.report import Report
from ftm_jobs.runtime.openmp import wait_without_spinning
from ftm_jobs.steps.arguments import add_merged_model, add_report_file, optional_source
from ftm_jobs.stores.source import parse_source


def add_arguments(parser: ArgumentParser) -> None:
    add_merged_model(parser)
    parser.add_argument("--bits", type=int, default=4, metavar="BITS", help="of a weight; vLLM's kernels have 4")
    parser.add_argument(
        "--group-size",
        type=int,
        default=128,
        metavar="SIZE",
        help="weights that share a scale: 128, 64 or 32; a smaller one is taken where widths forbid it; "
        "default %(default)s",
    )
    parser.add_argument(
        "--zero-point", action=BooleanOptionalAction, default=True, help="a zero point beside each scale"
    )
    parser.add_argument(
        "--engine",
        default="autoawq",
        choices=["autoawq", "llm-compressor"],
        help="each is in an image of its own; default %(default)s",
    )
    parser.add_argument(
        "--tensor-parallel",
        type=int,
        action="append",
        default=[],
        metavar="SIZE",
        help="a size that the result is to be served with, besides 1; may be repeated",
    )
    parser.add_argument(
        "--calibration",
        metavar="SOURCE",
        help="a .jsonl file of text or messages; default: a small set that is bundled",
    )
    add_report_file(parser)


def run(parsed: Namespace) -> Report:
    wait_without_spinning()
    from ftm_jobs.quantize.awq.conversion import awq
    from ftm_jobs.quantize.awq.settings import AwqEngine, AwqSettings

    settings = AwqSettings(
        parsed.bits,
        parsed.group_size,
        parsed.zero_point,
        AwqEngine(parsed.engine),
        tuple(sorted({1, *parsed.tensor_parallel})),
    )
    calibration = optional_source(parsed.calibration)
    return awq(parse_source(parsed.model), parse_source(parsed.artifacts), settings, calibration)
