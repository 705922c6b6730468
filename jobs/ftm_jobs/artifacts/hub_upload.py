"""Uploads an artifact's folder to a model repository on the Hugging Face Hub, in one commit.

Nothing is visible there before the commit, and what is committed has the sha256 of the manifest. A repository that
holds anything else than an earlier upload of the same files is left as it is.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.utils.tqdm import disable_progress_bars

from ftm_jobs.artifacts.model_card import CARD_FILE, MARK
from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.stores import open_store
from ftm_jobs.stores.source import Location, Source

_OF_THE_HUB = {".gitattributes"}
_MAY_PASS = {408, 425, 429}


def upload(target: Source, folder: Path, sha256s: Mapping[str, str], card: str, token: Mapping[str, str]) -> str:
    """Uploads the files of `folder`, whose sha256 are given by name, and the card. Returns the commit's address.

    `token` are credentials; where they are empty, the environment's or a login's apply. A repository that does not
    exist is created, private. Raises InvalidInput and Failed.
    """
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(endpoint=token.get("HF_ENDPOINT") or None, token=token.get("HF_TOKEN") or None)
    location = target.location
    try:
        api.create_repo(location.root, private=True, exist_ok=True)
        if location.revision:
            api.create_branch(location.root, branch=location.revision, exist_ok=True)
        _check_repository(api, target, sha256s)
        additions = [CommitOperationAdd(name, folder / name) for name in sha256s]
        api.preupload_lfs_files(location.root, additions, revision=location.revision)
        _check_uploaded(folder, additions, sha256s)
        commit = api.create_commit(
            location.root,
            [*additions, CommitOperationAdd(CARD_FILE, card.encode())],
            commit_message="Merged model",
            revision=location.revision,
        )
    except (HfHubHTTPError, httpx2.HTTPError, LocalTokenNotFoundError) as error:
        raise _explain(error, location) from error
    return str(commit.commit_url)


def _check_repository(api: HfApi, target: Source, sha256s: Mapping[str, str]) -> None:
    """Raises InvalidInput (DestinationTaken) naming a file that is not one of an earlier upload."""
    location = target.location
    siblings = api.model_info(location.root, revision=location.revision).siblings or []
    present = {sibling.rfilename for sibling in siblings} - _OF_THE_HUB
    others = sorted(present - sha256s.keys() - {CARD_FILE})
    if CARD_FILE in present and not others:
        store = open_store(target)
        if MARK not in bytes(store.read(CARD_FILE, 0, store.list()[CARD_FILE])).decode(errors="replace"):
            others = [CARD_FILE]
    if others or (present and CARD_FILE not in present):
        raise InvalidInput(
            Reason.DESTINATION_TAKEN,
            f'{location.uri} holds "{(others or sorted(present))[0][:100]}", which was not pushed with this model: '
            "name a repository that is new or empty, or a new branch (hf://org/name@branch)",
        )


def _check_uploaded(folder: Path, additions: list[CommitOperationAdd], sha256s: Mapping[str, str]) -> None:
    for addition in additions:
        sha256, wanted = addition.upload_info.sha256.hex(), sha256s[addition.path_in_repo]
        if sha256 != wanted:
            raise InvalidInput(
                Reason.CORRUPT_ARTIFACT,
                f"{folder / addition.path_in_repo} has sha256 {sha256}, but its manifest says {wanted}: merge again "
                "into an empty folder",
            )


def _explain(error: Exception, location: Location) -> Exception:
    text = " ".join(str(error).split())[:300]
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status == 401 or isinstance(error, LocalTokenNotFoundError):
        return InvalidInput(
            Reason.ACCESS_DENIED,
            f"{location.uri}: the hub takes uploads only with a token that it knows: set HF_TOKEN to one that may "
            "write, or run `hf auth login`",
        )
    if status in (403, 404):
        return InvalidInput(
            Reason.ACCESS_DENIED,
            f"{location.uri}: this token may not write there: give the HF_TOKEN of an account that may, or name a "
            "repository of your own",
        )
    if 400 <= status < 500 and status not in _MAY_PASS:
        return InvalidInput(Reason.INVALID_URI, f"{location.uri}: the hub refuses the upload: {text}")
    return Failed(Reason.STORE_UNAVAILABLE, f"{location.uri}: the upload broke off: {text}; run the same command again")
