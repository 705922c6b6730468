"""Runs the check of a served engine: once, or as long as a pod lives."""

import os
import sys
from argparse import ArgumentParser, Namespace

from ftm_jobs.contract.mounts import AGENT_PORT
from ftm_jobs.contract.verification import ServedReference, ServedVerification, ServingEngine
from ftm_jobs.errors import StepError
from ftm_jobs.steps.arguments import add_report_file
from ftm_jobs.stores.source import parse_source

KEY_VARIABLES = {ServingEngine.VLLM: "VLLM_API_KEY", ServingEngine.LLAMA_CPP: "LLAMA_API_KEY"}


def add_arguments(parser: ArgumentParser) -> None:
    from ftm_jobs.serve.verification.checks import AS_COMPUTED, ROUNDING_OF

    parser.add_argument(
        "--reference", required=True, metavar="SOURCE", help="an artifact of verify: <artifacts>/reference-…"
    )
    parser.add_argument(
        "--engine", required=True, metavar="URL", help="the engine's own address: http://127.0.0.1:8000"
    )
    parser.add_argument(
        "--kind", required=True, choices=[str(kind) for kind in ServingEngine], help="whose API the engine has"
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="the model's name in requests")
    parser.add_argument(
        "--dtype",
        choices=list(ROUNDING_OF),
        default="bfloat16",
        help="the dtype that vLLM is to compute in; default %(default)s",
    )
    parser.add_argument(
        "--kv-cache-dtype",
        default=AS_COMPUTED,
        metavar="DTYPE",
        help="the dtype that vLLM is to keep keys and values in, as its flag of that name; default %(default)s",
    )
    parser.add_argument(
        "--policy",
        choices=["Block", "Warn"],
        default="Block",
        help="whether an engine that differs is ready, with --watch; default %(default)s",
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="go on, measure each time that the engine starts, and answer GET /ready; verdicts are lines of stdout",
    )
    parser.add_argument(
        "--port", type=int, default=AGENT_PORT, metavar="N", help="of GET /ready, with --watch; default %(default)s"
    )
    add_report_file(parser)


def run(parsed: Namespace) -> ServedVerification:
    """Returns the verdict. The key that requests must have is VLLM_API_KEY's or LLAMA_API_KEY's."""
    from ftm_jobs.serve.verification.checks import Precision
    from ftm_jobs.serve.verification.engines import EngineAway, open_engine
    from ftm_jobs.serve.verification.measurement import measure_engine, read_reference, unproven
    from ftm_jobs.serve.verification.sidecar import EngineWatch, watch_forever

    source, kind = parse_source(parsed.reference), ServingEngine(parsed.kind)
    engine = open_engine(kind, parsed.engine, parsed.model, os.environ.get(KEY_VARIABLES[kind]))
    precision = Precision(parsed.dtype, parsed.kv_cache_dtype) if kind is ServingEngine.VLLM else Precision()
    kept: list[tuple[ServedReference, str]] = []

    def measure() -> ServedVerification:
        if not kept:
            kept.append(read_reference(source))
        return measure_engine(*kept[0], engine, precision)

    def measure_or_say_why() -> ServedVerification:
        try:
            return measure()
        except StepError as error:
            return unproven(source.digest or "", error.message)

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    if parsed.watch:
        watch_forever(EngineWatch(engine, measure_or_say_why, say, warn_only=parsed.policy == "Warn"), parsed.port)
    try:
        return measure()
    except EngineAway as error:
        return unproven(source.digest or "", f"the engine at {parsed.engine} does not answer ({error}): start it")
