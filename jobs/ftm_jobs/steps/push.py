"""Runs the push step: a merged model in a local folder goes to a repository on the Hugging Face Hub, with a card."""

import json
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path

from ftm_jobs.artifacts.manifest import read_manifest
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import InvalidInput, Reason, StepError
from ftm_jobs.steps.arguments import add_report_file, optional_source
from ftm_jobs.stores import open_artifacts, open_store
from ftm_jobs.stores.credentials import read_credentials
from ftm_jobs.stores.source import Source, parse_source

_LARGEST_CARD_BYTES = 1024 * 1024


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model", required=True, metavar="SOURCE", help="a merged model in a folder here: file:///path"
    )
    parser.add_argument(
        "--to", required=True, metavar="SOURCE", help="hf://org/name[@branch]; made private if it is new"
    )
    parser.add_argument("--base", metavar="SOURCE", help="the base model, whose card names the license")
    add_report_file(parser)


def run(parsed: Namespace) -> Report:
    model, target, base = parse_source(parsed.model), parse_source(parsed.to), optional_source(parsed.base)
    if target.location.scheme != "hf":
        raise InvalidInput(
            Reason.INVALID_URI, f'"{target.uri}" is no repository on the hub: write hf://org/name[@branch]'
        )
    if model.location.scheme != "file":
        raise InvalidInput(
            Reason.INVALID_URI,
            f"{model.uri}: what is pushed is a folder on this machine: merge into one (--out ./merged)",
        )
    from ftm_jobs.artifacts.hub_upload import upload
    from ftm_jobs.artifacts.model_card import CARD_FILE, model_card

    store = open_artifacts(model)
    stored = read_manifest(store, store.list())
    if stored is None or stored[0].step is not Step.MERGE:
        raise InvalidInput(Reason.SOURCE_NOT_FOUND, f"{store.uri} holds no complete merge: run `ftm merge` first")
    manifest, folder = stored[0], Path(model.location.root)
    card = model_card(
        target.location.root.rpartition("/")[2],
        manifest,
        json.loads((folder / "config.json").read_bytes()),
        _card_of(base) if base else "",
    )
    sha256s = {file.path: file.sha256 for file in manifest.files if file.path != CARD_FILE}
    commit = upload(target, folder, sha256s, card, read_credentials(target.credentials) or {})
    return Report(
        step=Step.PUSH,
        outcome=Outcome.DONE,
        reason=Reason.PUSHED,
        message=f"pushed to {target.uri}: {len(sha256s) + 1} files, {commit}",
    )


def _card_of(base: Source) -> str:
    """Returns the base's model card; empty where it has none that can be read."""
    with suppress(StepError):
        store = open_store(base)
        size = store.list().get("README.md", 0)
        return (
            bytes(store.read("README.md", 0, min(size, _LARGEST_CARD_BYTES))).decode(errors="replace") if size else ""
        )
    return ""
