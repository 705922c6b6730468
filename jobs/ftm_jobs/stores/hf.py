"""Reads a model repository on the Hugging Face Hub or a mirror of it, pinned to a commit when it is opened."""

import ssl
from collections.abc import Mapping
from typing import Any

import httpx2
from huggingface_hub import HfApi, get_session, hf_hub_url, set_client_factory
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import hf_request_event_hook

from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.runtime.caller import advice
from ftm_jobs.runtime.os_errors import words
from ftm_jobs.stores.interface import Stat, Store
from ftm_jobs.stores.retry import TransientError, retry
from ftm_jobs.stores.source import Location

TIMEOUT_SECONDS = 60.0
_MAY_PASS = {408, 425, 429, 500, 502, 503, 504}


class HfStore(Store):
    def __init__(self, repository: str, commit: str, files: dict[str, Stat], endpoint: str | None, token: Any) -> None:
        self.uri = f"hf://{repository}@{commit}"
        self._repository = repository
        self._commit = commit
        self._files = files
        self._endpoint = endpoint
        self._headers = {**build_hf_headers(token=token), "Accept-Encoding": "identity"}

    @classmethod
    def open(cls, location: Location, credentials: Mapping[str, str] | None) -> "HfStore":
        """Asks the hub once for the commit, the files and their sizes."""
        given = credentials or {}
        endpoint = given.get("HF_ENDPOINT") or None
        if certificates := given.get("SSL_CERT_FILE"):
            _trust(certificates, location.uri)
        token: str | bool | None = given.get("HF_TOKEN") or (None if credentials is None else False)
        api = HfApi(endpoint=endpoint, token=token)

        def ask() -> Any:
            try:
                return api.model_info(
                    location.root, revision=location.revision, files_metadata=True, timeout=TIMEOUT_SECONDS
                )
            except (HfHubHTTPError, httpx2.HTTPError, OfflineModeIsEnabled) as error:
                raise _explain(error, location.uri) from error

        info = _retried(ask, location.uri)
        files: dict[str, Stat] = {}
        for sibling in info.siblings or []:
            if sibling.size is None:
                continue
            identity = f"sha256:{sibling.lfs.sha256}" if sibling.lfs else f"etag:{sibling.blob_id}"
            files[sibling.rfilename] = Stat(sibling.rfilename, sibling.size, identity)
        return cls(location.root, str(info.sha), files, endpoint, token)

    def list(self) -> dict[str, int]:
        return {path: stat.size for path, stat in self._files.items() if "/" not in path}

    def folders(self) -> set[str]:
        return {path.partition("/")[0] for path in self._files if "/" in path}

    def list_folder(self, name: str) -> dict[str, int]:
        return {path: stat.size for path, stat in self._files.items() if path.startswith(f"{name}/")}

    def stat(self, path: str) -> Stat:
        return self._files[path]

    def read_into(self, path: str, offset: int, buffer: memoryview) -> None:
        if len(buffer):
            _retried(lambda: self._read_once(path, offset, buffer), self.describe(path))

    def _read_once(self, path: str, offset: int, buffer: memoryview) -> None:
        url = hf_hub_url(self._repository, path, revision=self._commit, endpoint=self._endpoint)
        headers = {**self._headers, "Range": f"bytes={offset}-{offset + len(buffer) - 1}"}
        done = 0
        try:
            with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_SECONDS) as response:
                if response.status_code >= 400:
                    raise _refused(response, self.describe(path), response.reason_phrase)
                to_skip = offset if response.status_code == 200 else 0
                for chunk in response.iter_raw():
                    wanted = memoryview(chunk)[to_skip : to_skip + len(buffer) - done]
                    to_skip = max(0, to_skip - len(chunk))
                    buffer[done : done + len(wanted)] = wanted
                    done += len(wanted)
                    if done == len(buffer):
                        return
        except httpx2.HTTPError as error:
            raise TransientError(f"broke off after {done} of {len(buffer)} bytes from {offset}: {error!r}") from error
        raise TransientError(f"answered {done} of {len(buffer)} bytes from {offset}")


def _trust(certificates: str, uri: str) -> None:
    """Trusts the certificates in this file too, for all hubs that this process reads from."""
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(certificates)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            Reason.ACCESS_DENIED,
            f"{uri}: SSL_CERT_FILE in the {advice('Secret', 'credentials folder')} holds no certificates that can be "
            f"read ({words(error)}): correct it",
        ) from error
    hooks: Any = {"request": [hf_request_event_hook]}
    set_client_factory(lambda: httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=None, verify=context))


def _retried(operation: Any, label: str) -> Any:
    try:
        return retry(operation, label)
    except TransientError as error:
        raise Failed(Reason.STORE_UNAVAILABLE, f"{label}: {error}") from error


def _explain(error: Exception, uri: str) -> Exception:
    if isinstance(error, GatedRepoError):
        return InvalidInput(
            Reason.ACCESS_DENIED,
            f"{uri} is gated: accept its terms on its page and {_give_token('of that account')}",
        )
    if isinstance(error, RevisionNotFoundError):
        return InvalidInput(Reason.SOURCE_NOT_FOUND, f"{uri}: the repository has no such branch, tag or commit")
    if isinstance(error, RepositoryNotFoundError):
        return InvalidInput(
            Reason.SOURCE_NOT_FOUND,
            f"{uri} does not exist or is private: correct the name, or {_give_token('that may read it')}",
        )
    if isinstance(error, OfflineModeIsEnabled):
        return Failed(Reason.STORE_UNAVAILABLE, f"{uri}: HF_HUB_OFFLINE is set: unset it, or use s3:// or file://")
    if isinstance(error, HfHubHTTPError):
        return _refused(error.response, uri, " ".join(str(error).split()))
    if isinstance(error, httpx2.UnsupportedProtocol):
        return InvalidInput(Reason.INVALID_URI, f"{uri}: {error}: write HF_ENDPOINT as https://host[:port]")
    return TransientError(repr(error))


def _give_token(which: str) -> str:
    return advice(
        f"give a HF_TOKEN {which} in the Secret", f"set a HF_TOKEN {which}, or log in with it by `hf auth login`"
    )


def _refused(response: httpx2.Response, label: str, text: str) -> Exception:
    status = response.status_code
    if status in (401, 403):
        return InvalidInput(
            Reason.ACCESS_DENIED,
            f"{label}: the hub refuses this token ({status} {text}): correct HF_TOKEN"
            + advice(" in the Secret", ", or log in again with `hf auth login`"),
        )
    if status == 404:
        return InvalidInput(Reason.MISSING_FILE, f"{label} does not exist on the hub")
    if status in _MAY_PASS:
        asked = response.headers.get("Retry-After", "")
        return TransientError(f"the hub answered {status} {text}", float(asked) if asked.isdecimal() else 0.0)
    return Failed(Reason.STORE_UNAVAILABLE, f"{label}: the hub answered {status} {text}")
