"""Runs the verify step: is what would be served what was trained?"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.verification import HELD_OUT_TOKENS
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.openmp import wait_without_spinning
from ftm_jobs.steps.arguments import add_base_and_adapters, add_report_file, base_and_adapters, optional_source
from ftm_jobs.stores.source import parse_source


def add_arguments(parser: ArgumentParser) -> None:
    add_base_and_adapters(parser, adapter_required=True)
    parser.add_argument(
        "--model", required=True, metavar="SOURCE", help="the merged model: an artifact, or any folder with a model"
    )
    parser.add_argument("--quantized", metavar="SOURCE", help="what was quantized from it: AWQ or GGUF")
    parser.add_argument(
        "--artifacts", required=True, metavar="SOURCE", help="where artifacts are: the result is <artifacts>/<key>/"
    )
    parser.add_argument(
        "--prompts",
        type=lambda text: text if text.startswith("[") else Path(text),
        metavar="FILE|JSON",
        help='JSON lines, or a list, of {"prompt": "…"} or {"messages": […]}, each with an optional "expect": ["…"]',
    )
    parser.add_argument(
        "--prompts-rest",
        action="append",
        default=[],
        metavar="TEXT",
        help="the next part of a JSON list that is longer than an argument may be; any number of them",
    )
    parser.add_argument(
        "--calibration", metavar="SOURCE", help="JSON lines whose last quarter is measured on; default: a bundled set"
    )
    parser.add_argument(
        "--max-divergence", type=float, metavar="NATS", help="the largest mean KL of quantized to merged, per token"
    )
    parser.add_argument(
        "--tokens",
        type=int,
        default=HELD_OUT_TOKENS,
        metavar="N",
        help="of hold-out text at most; default %(default)s",
    )
    add_report_file(parser)


def prompts(parsed: Namespace) -> Path | str | None:
    """Returns the file of questions, or their JSON, put together of its parts.

    Raises InvalidInput for parts that follow no list.
    """
    if not parsed.prompts_rest:
        asked: Path | str | None = parsed.prompts
        return asked
    if not isinstance(parsed.prompts, str):
        raise InvalidInput(
            Reason.INVALID_PROMPTS, "--prompts-rest goes on with a JSON list; begin it with --prompts '['"
        )
    return "".join((parsed.prompts, *parsed.prompts_rest))


def run(parsed: Namespace) -> Report:
    wait_without_spinning()
    from ftm_jobs.verify.artifact import VerifyRequest, verify

    base, adapters = base_and_adapters(parsed)
    return verify(
        VerifyRequest(
            base,
            adapters,
            parse_source(parsed.model),
            parse_source(parsed.artifacts),
            optional_source(parsed.quantized),
            prompts(parsed),
            optional_source(parsed.calibration),
            parsed.max_divergence,
            parsed.tokens,
        )
    )
