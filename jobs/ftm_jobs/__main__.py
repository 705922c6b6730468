"""`python -m ftm_jobs inspect|merge|awq|gguf|verify|fetch|artifacts`: one step, as a Job or a person runs it.

The report is JSON: the last line of stdout, and the file of --report. Exit code 0 means done, 2 that the input is
wrong and a retry is useless, 1 anything else. Progress goes to stderr. Only the step that is asked for is imported.
"""

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ftm_jobs.contract.keys import QuantizedBase
from ftm_jobs.contract.manifest import Catalogue
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import EXIT_CODES, Outcome, Step
from ftm_jobs.contract.verification import HELD_OUT_TOKENS
from ftm_jobs.errors import Interrupted, Reason, StepError
from ftm_jobs.runtime.logs import log_to_stderr
from ftm_jobs.stores.source import parse_source

AWQ = "awq"
GGUF = "gguf"
COMMANDS = {AWQ: Step.QUANTIZE, GGUF: Step.QUANTIZE}
"""Commands that are not named like their step."""

SOURCES = """\
SOURCE is URI[,digest=sha256:…][,credentials=DIR]; for an adapter also ,scale=S (default 1).
  URI          hf://org/name[@revision]  s3://bucket/prefix  file:///absolute/path
               pvc://claim/path, in a pod that mounts the claim at /pvc/claim
  scale        multiplies what the adapter adds
  digest       what an earlier inspect reported: a source that has changed since is refused
  credentials  a folder with one file per key, as Kubernetes mounts a Secret: AWS_ACCESS_KEY_ID,
               AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, AWS_S3_ADDRESSING_STYLE,
               AWS_NO_SIGN_REQUEST, AWS_CA_BUNDLE, HF_TOKEN, HF_ENDPOINT, SSL_CERT_FILE;
               without it the process's environment is used

The report is JSON, on the last line of stdout and in the file of --report.
Exit code: 0 done, 2 the input is wrong and a retry is useless, 1 anything else.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step, print its report, return its exit code."""
    log_to_stderr()
    parsed = _parser().parse_args(arguments)
    if parsed.step in (AWQ, GGUF, Step.VERIFY):
        # OpenMP's threads wait by spinning, which on a busy node takes the processor from those that are waited for.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    report = _report(parsed)
    if isinstance(report, Catalogue):
        print(report.model_dump_json(by_alias=True, exclude_none=True), flush=True)
        return int(EXIT_CODES[report.outcome])
    line = report.termination_message()
    if parsed.report:
        try:
            parsed.report.write_text(line)
        except OSError as error:
            print(f"--report {parsed.report} cannot be written: {error}", file=sys.stderr)
    print(line, flush=True)
    return int(report.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ftm_jobs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="inspect|merge|awq|gguf|verify|fetch|artifacts")

    def step(name: str, summary: str) -> argparse.ArgumentParser:
        return steps.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=SOURCES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    inspect = step(Step.INSPECT, "read configs and headers of a base and its adapters, and check that they fit")
    merge = step(
        Step.MERGE, "add adapters to a base, in order, and write the result under a key of its inputs or to --out"
    )
    fetch = step(Step.FETCH, "download an artifact and prove every file by its sha256")
    verify = step(
        Step.VERIFY, "measure a merged and a quantized model against base+adapter, and write figures and a report"
    )
    for takes_sources in (inspect, merge, verify):
        takes_sources.add_argument("--base", required=True, metavar="SOURCE", help="the base model")
        takes_sources.add_argument(
            "--adapter",
            required=takes_sources is not inspect,
            action="append",
            default=[],
            metavar="SOURCE",
            help="a LoRA adapter; may be repeated",
        )
    target = merge.add_mutually_exclusive_group(required=True)
    target.add_argument("--artifacts", metavar="SOURCE", help="where artifacts are: the result is <artifacts>/<key>/")
    target.add_argument("--out", metavar="SOURCE", help="an empty folder: the result is exactly there")
    merge.add_argument(
        "--quantized-base",
        type=QuantizedBase,
        choices=[*QuantizedBase],
        default=QuantizedBase.FULL_PRECISION,
        help="what a QLoRA adapter is added to: the base as stored, or as 4-bit NormalFloat (NF4, blocks of 64, "
        "without double quantization) leaves its adapted Linear layers; default %(default)s",
    )
    merge.add_argument(
        "--max-shard-size",
        metavar="SIZE",
        help="of the output's weight files, as in 5GB, 500MB or 2GiB: a tensor that is larger has a file of its own; "
        "default: the base's files are kept",
    )
    _add_verify(verify)
    fetch.add_argument("--artifact", required=True, metavar="SOURCE", help="an artifact: <artifacts>/<key>")
    fetch.add_argument("--to", required=True, type=Path, metavar="DIR", help="the folder to fill; made if missing")
    awq = step(AWQ, "quantize a merged model to 4 bits with AWQ for vLLM, as an artifact of its own")
    _add_awq(awq)
    gguf = step(GGUF, "convert a merged model to GGUF for llama.cpp, as an artifact of its own")
    _add_gguf(gguf)
    _add_artifacts(step(Step.ARTIFACTS, "list, show, verify or remove what a store of artifacts holds"))
    for every in (inspect, merge, awq, gguf, verify, fetch):
        every.add_argument("--report", type=Path, metavar="FILE", help="also write the report here")
    return parser


def _add_verify(verify: argparse.ArgumentParser) -> None:
    verify.add_argument(
        "--model", required=True, metavar="SOURCE", help="the merged model: an artifact, or any folder with a model"
    )
    verify.add_argument("--quantized", metavar="SOURCE", help="what was quantized from it: AWQ or GGUF")
    verify.add_argument(
        "--artifacts", required=True, metavar="SOURCE", help="where artifacts are: the result is <artifacts>/<key>/"
    )
    verify.add_argument(
        "--prompts",
        type=lambda text: text if text.startswith("[") else Path(text),
        metavar="FILE|JSON",
        help='JSON lines, or a list, of {"prompt": "…"} or {"messages": […]}, each with an optional "expect": ["…"]',
    )
    verify.add_argument(
        "--calibration", metavar="SOURCE", help="JSON lines whose last quarter is measured on; default: a bundled set"
    )
    verify.add_argument(
        "--max-divergence", type=float, metavar="NATS", help="the largest mean KL of quantized to merged, per token"
    )
    verify.add_argument(
        "--tokens",
        type=int,
        default=HELD_OUT_TOKENS,
        metavar="N",
        help="of hold-out text at most; default %(default)s",
    )


def _add_awq(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="SOURCE", help="a merged artifact, or a folder with a model")
    parser.add_argument("--artifacts", required=True, metavar="SOURCE", help="where artifacts are")
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
        "--zero-point", action=argparse.BooleanOptionalAction, default=True, help="a zero point beside each scale"
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


def _add_gguf(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="SOURCE", help="a merged artifact, or a folder with a model")
    parser.add_argument("--artifacts", required=True, metavar="SOURCE", help="where artifacts are")
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


def _add_artifacts(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|verify|gc")

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        added.add_argument("store", metavar="STORE", help="where artifacts are, a SOURCE")
        added.set_defaults(report=None)
        return added

    action("list", "show every artifact, complete or not")
    action("show", "show one artifact's manifest").add_argument("key", metavar="KEY")
    action("verify", "read every file and prove its sha256").add_argument(
        "key", metavar="KEY", nargs="*", help="all complete artifacts without one"
    )
    gc = action("gc", "remove complete artifacts that are not kept, and incomplete ones that nobody wrote to for a day")
    gc.add_argument("--keep", metavar="KEY", nargs="+", required=True, help="artifacts that something refers to")
    gc.add_argument("--delete", action="store_true", help="do it; without this only say what would be done")


def _report(parsed: argparse.Namespace) -> Report | Catalogue:
    """The step's report, whatever happens."""
    start = time.monotonic()
    step = COMMANDS.get(parsed.step) or Step(parsed.step)
    try:
        if step is Step.ARTIFACTS:
            return _artifacts(parsed)
        report = _run(step, parsed)
    except StepError as error:
        report = Report(step=step, outcome=error.outcome, reason=error.reason, message=error.message)
    except Interrupted:
        report = _failed(step, Reason.INTERRUPTED, "the step was stopped before it was done; run it again")
    except MemoryError:
        report = _failed(step, Reason.OUT_OF_MEMORY, "memory ran out: give the Job more (spec.jobs.resources)")
    except Exception as error:  # noqa: BLE001 - whatever happens, the operator gets a report
        traceback.print_exc()
        if "can't allocate memory" in str(error):
            report = _failed(step, Reason.OUT_OF_MEMORY, "memory ran out: give the Job more (spec.jobs.resources)")
        else:
            text = " ".join(str(error).split())
            report = _failed(step, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {text} (the log has the traceback)")
    return report.model_copy(update={"seconds": round(time.monotonic() - start, 3)})


def _run(step: Step, parsed: argparse.Namespace) -> Report:
    if step is Step.FETCH:
        from ftm_jobs.artifacts.fetch import fetch

        return fetch(parse_source(parsed.artifact), parsed.to)
    if parsed.step == AWQ:
        from ftm_jobs.quantize.awq.conversion import AwqEngine, AwqSettings, awq

        settings = AwqSettings(
            parsed.bits,
            parsed.group_size,
            parsed.zero_point,
            AwqEngine(parsed.engine),
            tuple(sorted({1, *parsed.tensor_parallel})),
        )
        calibration = None if parsed.calibration is None else parse_source(parsed.calibration)
        return awq(parse_source(parsed.model), parse_source(parsed.artifacts), settings, calibration)
    if parsed.step == GGUF:
        from ftm_jobs.quantize.gguf.conversion import gguf

        calibration = None if parsed.calibration is None else parse_source(parsed.calibration)
        model, artifacts = parse_source(parsed.model), parse_source(parsed.artifacts)
        return gguf(model, artifacts, parsed.type, calibration, strict=parsed.strict)
    base = parse_source(parsed.base)
    adapters = [parse_source(text, scalable=True) for text in parsed.adapter]
    if step is Step.VERIFY:
        from ftm_jobs.steps.verify import Request, verify

        return verify(
            Request(
                base,
                adapters,
                parse_source(parsed.model),
                parse_source(parsed.artifacts),
                parse_source(parsed.quantized) if parsed.quantized else None,
                parsed.prompts,
                parse_source(parsed.calibration) if parsed.calibration else None,
                parsed.max_divergence,
                parsed.tokens,
            )
        )
    if step is Step.INSPECT:
        from ftm_jobs.steps.inspect import inspect

        return inspect(base, adapters)
    from ftm_jobs.checkpoint.output_layout import parse_file_size
    from ftm_jobs.steps.merge import merge, merge_to

    largest = None if parsed.max_shard_size is None else parse_file_size(parsed.max_shard_size)
    if parsed.out:
        return merge_to(base, adapters, parse_source(parsed.out), parsed.quantized_base, largest)
    return merge(base, adapters, parse_source(parsed.artifacts), parsed.quantized_base, largest)


def _artifacts(parsed: argparse.Namespace) -> Catalogue:
    from ftm_jobs.artifacts import catalogue as artifacts

    store = parse_source(parsed.store)
    match parsed.action:
        case "list":
            return artifacts.list_artifacts(store)
        case "show":
            return artifacts.show(store, parsed.key)
        case "verify":
            return artifacts.verify(store, parsed.key)
        case _:
            return artifacts.gc(store, set(parsed.keep), datetime.now(UTC), delete=parsed.delete)


def _failed(step: Step, reason: Reason, message: str) -> Report:
    return Report(step=step, outcome=Outcome.FAILED, reason=reason, message=message)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    raise Interrupted


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    code = main()
    sys.stderr.flush()
    os._exit(code)  # threads that still wait for the network must not hold the process
