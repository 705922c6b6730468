"""Adds the arguments that several commands share, and reads sources from them."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ftm_jobs.stores.source import Source, parse_source

SOURCES_HELP = """\
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


def add_base_and_adapters(parser: ArgumentParser, *, adapter_required: bool) -> None:
    """Adds --base and --adapter."""
    parser.add_argument("--base", required=True, metavar="SOURCE", help="the base model")
    parser.add_argument(
        "--adapter",
        required=adapter_required,
        action="append",
        default=[],
        metavar="SOURCE",
        help="a LoRA adapter; may be repeated",
    )


def base_and_adapters(parsed: Namespace) -> tuple[Source, list[Source]]:
    """Reads --base and --adapter. Raises InvalidInput (InvalidURI)."""
    return parse_source(parsed.base), [parse_source(text, scalable=True) for text in parsed.adapter]


def add_merged_model(parser: ArgumentParser) -> None:
    """Adds --model and --artifacts, for what is made from a merged model."""
    parser.add_argument("--model", required=True, metavar="SOURCE", help="a merged artifact, or a folder with a model")
    parser.add_argument("--artifacts", required=True, metavar="SOURCE", help="where artifacts are")


def add_report_file(parser: ArgumentParser) -> None:
    """Adds --report, the last argument of every step of a build."""
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the report here")


def optional_source(text: str | None) -> Source | None:
    """Reads a source that may be left out. Raises InvalidInput (InvalidURI)."""
    return None if text is None else parse_source(text)
