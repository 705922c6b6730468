"""Runs the quantize step for llama.cpp: a merged model becomes one GGUF file."""

from argparse import ArgumentParser, Namespace

from ftm_jobs.contract.report import Report
from ftm_jobs.runtime.openmp import wait_without_spinning
from ftm_jobs.steps.arguments import add_merged_model, add_report_file, optional_source
from ftm_jobs.stores.source import parse_source


def add_arguments(parser: ArgumentParser) -> None:
    add_merged_model(parser)
    parser.add_argument(
        "--type",
        default="Q4_K_M",
        metavar="TYPE",
        help="Q2_K, Q4_0, Q4_K_M, Q5_K_M, Q8_0, F16 or BF16; default %(default)s",
    )
    parser.add_argument(
        "--calibration",
        metavar="SOURCE",
        help="a .jsonl file of text or messages, to compute an importance matrix from",
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse a type that cannot store all weights as it should"
    )
    add_report_file(parser)


def run(parsed: Namespace) -> Report:
    wait_without_spinning()
    from ftm_jobs.quantize.gguf.conversion import gguf

    calibration = optional_source(parsed.calibration)
    model, artifacts = parse_source(parsed.model), parse_source(parsed.artifacts)
    return gguf(model, artifacts, parsed.type, calibration, strict=parsed.strict)
