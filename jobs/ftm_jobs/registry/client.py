"""Pushes blobs and manifests to a repository by the distribution API, as far as they are not there yet.

Written here since oras-py and olot take blobs as files on a disk, and these are streamed from a store.
Source: opencontainers/distribution-spec, spec.md.
"""

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import httpx2

from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.registry.authority import Authority
from ftm_jobs.registry.image import Document
from ftm_jobs.registry.login import Login
from ftm_jobs.registry.repository import Repository
from ftm_jobs.stores.retry import TransientError, retry

TIMEOUT = httpx2.Timeout(60.0, connect=15.0)
COMMIT_TIMEOUT = httpx2.Timeout(60.0, connect=15.0, read=900.0)
"""A registry reads a whole layer before it answers that it has it."""
_MAY_PASS = {408, 425, 429, 500, 502, 503, 504}

Content = Callable[[], Iterator[bytes]]
"""Yields a blob's bytes, from their beginning each time that it is called."""


class Registry:
    """One repository of a registry. Safe to use from several threads."""

    def __init__(self, repository: Repository, login: Login | None) -> None:
        self.repository = repository
        self._http = httpx2.Client(timeout=TIMEOUT, follow_redirects=False)
        self._authority = Authority(repository, login, self._http)
        self._root = httpx2.URL(f"{repository.address}/v2/{repository.path}/")

    def __enter__(self) -> "Registry":
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self._http.close()

    def has_blob(self, digest: str) -> bool:
        """Returns whether the repository has the blob; a registry that sends us elsewhere for it has it."""
        answer = self._asked("HEAD", self._root.join(f"blobs/{digest}"))
        return answer.is_redirect or self._expect(answer, 200, 404) == 200

    def digest_of(self, reference: str, media_type: str) -> str | None:
        """Returns the digest of the manifest that a tag or a digest stands for; None where it stands for none."""
        answer = self._asked("HEAD", self._root.join(f"manifests/{reference}"), headers={"Accept": media_type})
        return answer.headers.get("Docker-Content-Digest", "") if self._expect(answer, 200, 404) == 200 else None

    def push_blob(self, digest: str, size: int, content: Content) -> None:
        """Streams a blob to the repository, whose digest the registry proves.

        Where it breaks off it begins anew.
        """

        def push() -> httpx2.Response:
            answer = self._once("POST", self._root.join("blobs/uploads/"))
            self._expect(answer, 202)
            place = self._root.join(answer.headers["Location"]).copy_merge_params({"digest": digest})
            headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
            return self._once("PUT", place, headers=headers, content=content, timeout=COMMIT_TIMEOUT)

        self._expect(self._retried(push), 201)

    def push_manifest(self, document: Document, reference: str) -> None:
        """Puts a manifest or an index under a tag or its digest; what it names must be there."""
        size = str(len(document.content))
        headers = {"Content-Type": document.media_type, "Content-Length": size}
        address = self._root.join(f"manifests/{reference}")
        self._expect(self._asked("PUT", address, headers=headers, content=lambda: iter([document.content])), 201)

    def _asked(self, method: str, url: httpx2.URL, **request: Any) -> httpx2.Response:
        return self._retried(lambda: self._once(method, url, **request))

    def _retried(self, operation: Callable[[], httpx2.Response]) -> httpx2.Response:
        name = self.repository.name
        try:
            return retry(operation, name)
        except TransientError as error:
            raise Failed(
                Reason.STORE_UNAVAILABLE, f"{name}: {error}; check that {self._root.host} is the registry's address"
            ) from error

    def _once(self, method: str, url: httpx2.URL, *, content: Content | None = None, **request: Any) -> httpx2.Response:
        """Returns the registry's answer, with the right that it asks for. Raises TransientError and InvalidInput."""
        try:
            answer = self._send(method, url, content, **request)
            if answer.status_code == 401:
                self._authority.renew(answer.headers.get("WWW-Authenticate", ""))
                answer = self._send(method, url, content, **request)
        except httpx2.HTTPError as error:
            raise TransientError(f"{type(error).__name__}: {error or 'no answer'}") from error
        if answer.status_code in _MAY_PASS:
            after = answer.headers.get("Retry-After", "")
            text = f"the registry answers {answer.status_code} {_words(answer)}"
            raise TransientError(text, float(after) if after.isdecimal() else 0.0)
        return answer

    def _send(
        self,
        method: str,
        url: httpx2.URL,
        content: Content | None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: httpx2.Timeout = TIMEOUT,
    ) -> httpx2.Response:
        """Sends a request, with our right where it goes to the registry itself and to no storage behind it."""
        ours = (url.scheme, url.host, url.port) == (self._root.scheme, self._root.host, self._root.port)
        authorization = self._authority.authorization if ours else None
        given = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
        return self._http.request(method, url, headers=given, content=content() if content else None, timeout=timeout)

    def _expect(self, answer: httpx2.Response, *statuses: int) -> int:
        """Returns the answer's status, which is one of these. Raises InvalidInput and Failed."""
        status, name = answer.status_code, self.repository.name
        if status in statuses:
            return status
        said = f"{status} {_words(answer)}".strip()
        if status in (401, 403):
            raise self._authority.denied(said)
        if status == 404:
            raise InvalidInput(
                Reason.SOURCE_NOT_FOUND, f"{name}: the registry has no such repository ({said}): create it"
            )
        if status == 413:
            raise InvalidInput(
                Reason.INVALID_SIZE, f"{name}: a layer is too large for the registry ({said}): raise its limit"
            )
        raise Failed(Reason.STORE_UNAVAILABLE, f"{name}: the registry answers {said}; look at its log")


def _words(answer: httpx2.Response) -> str:
    """Returns the registry's own words for an error, or those for its status."""
    try:
        errors = answer.json()["errors"]
        return " ".join(f"{errors[0].get('code', '')} {errors[0].get('message', '')}".split())[:300]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return answer.reason_phrase
