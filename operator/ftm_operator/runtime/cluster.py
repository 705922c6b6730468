"""The only Kubernetes I/O: list, get, server-side apply, delete, status, Events.

Objects are dicts, as the API server gives them. Every write is by one field manager, and counted.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config

from ftm_operator.api.v1alpha1 import API_VERSION, KIND, PLURAL
from ftm_operator.resources import leader_worker_set
from ftm_operator.resources.metadata import MANAGED_BY, MANAGER, Manifest

PATHS = {
    KIND: (API_VERSION, PLURAL),
    "Job": ("batch/v1", "jobs"),
    "Deployment": ("apps/v1", "deployments"),
    "Service": ("v1", "services"),
    "Pod": ("v1", "pods"),
    "Event": ("v1", "events"),
    "ConfigMap": ("v1", "configmaps"),
    "Node": ("v1", "nodes"),
    "ResourceClaimTemplate": ("resource.k8s.io/v1", "resourceclaimtemplates"),
    "ResourceSlice": ("resource.k8s.io/v1", "resourceslices"),
    leader_worker_set.KIND: (leader_worker_set.API_VERSION, leader_worker_set.PLURAL),
}
OPTIONAL = (leader_worker_set.KIND,)
"""Of children's kinds, those that a cluster may lack."""
CHILDREN = ("Job", "Deployment", "Service", "Pod", *OPTIONAL)
CHILD_SELECTOR = f"{MANAGED_BY}={MANAGER}"
PAGE_SIZE = 500
REQUEST_SECONDS = 30
LOG_SECONDS = 3
"""A node that does not answer must not hold a pass."""
LOG_LINE_BYTES = 512
LOG_PART_BYTES = 256 * 1024
LOG_END_LINES = 500


class ApiError(Exception):
    """The API server refused a request, or did not answer (status 0)."""

    def __init__(self, request: str, status: int, message: str) -> None:
        super().__init__(f"{request}: {status} {message}")
        self.status = status
        self.message = message


class NoCluster(Exception):
    """There is no API server to connect to."""


@dataclass(frozen=True)
class Listing:
    items: list[Manifest]
    resource_version: int


class Cluster:
    """A connection to one API server."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self.writes = 0

    @classmethod
    @asynccontextmanager
    async def connect(cls) -> AsyncIterator[Self]:
        """By the pod's service account, else by KUBECONFIG. Raises NoCluster when there is neither."""
        try:
            config.load_incluster_config()  # type: ignore[no-untyped-call]
        except config.ConfigException:
            try:
                await config.load_kube_config()  # type: ignore[no-untyped-call]
            except (config.ConfigException, OSError) as error:
                raise NoCluster(f"kubeconfig names no cluster ({' '.join(str(error).split())})") from error
        async with client.ApiClient() as api:
            yield cls(api)

    async def list(self, kind: str, namespace: str | None = None) -> Listing:
        """All objects of a kind; of children's kinds, those that the operator made."""
        query = {"limit": str(PAGE_SIZE)}
        if kind in CHILDREN:
            query["labelSelector"] = CHILD_SELECTOR
        items: list[Manifest] = []
        api_version, _ = PATHS[kind]
        while True:
            page = await self._request("GET", path(kind, namespace), query)
            items.extend({"apiVersion": api_version, "kind": kind, **item} for item in page["items"])
            if not (token := page["metadata"].get("continue")):
                return Listing(items, int(page["metadata"]["resourceVersion"]))
            query["continue"] = token

    async def serves(self, kind: str) -> bool:
        """Whether the API server knows the kind in the version that is used here."""
        api_version, plural = PATHS[kind]
        try:
            known = await self._request("GET", _root(api_version))
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return any(resource["name"] == plural for resource in known["resources"])

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        try:
            return await self._request("GET", path(kind, namespace, name))
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def apply(self, manifest: Manifest, subresource: str | None = None) -> Manifest:
        """Server-side apply: what the manifest says is ours, what it no longer says is removed."""
        metadata = manifest["metadata"]
        where = path(manifest["kind"], metadata["namespace"], metadata["name"], subresource)
        query = {"fieldManager": MANAGER, "force": "true"}
        return await self._request("PATCH", where, query, manifest, "application/apply-patch+yaml")

    async def delete(self, manifest: Manifest) -> None:
        """Deletes exactly this object, not a later one of the same name; one that is gone already is no error."""
        metadata = manifest["metadata"]
        options = {"propagationPolicy": "Background", "preconditions": {"uid": metadata["uid"]}}
        try:
            await self._request("DELETE", path(manifest["kind"], metadata["namespace"], metadata["name"]), {}, options)
        except ApiError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def create_event(self, event: Manifest) -> None:
        await self._request("POST", path("Event", event["metadata"]["namespace"]), {}, event)

    async def last_log_line(self, namespace: str, pod: str) -> str:
        """The newest line of a pod's log, cut at LOG_LINE_BYTES."""
        return (await self._log(namespace, pod, tailLines="1", limitBytes=str(LOG_LINE_BYTES))).strip()

    async def log_beginning(self, namespace: str, pod: str, container: str) -> str:
        """The first LOG_PART_BYTES of what a container's present run logged."""
        return await self._log(namespace, pod, container=container, limitBytes=str(LOG_PART_BYTES))

    async def log_end(self, namespace: str, pod: str, container: str, *, previous: bool) -> str:
        """The last LOG_END_LINES, LOG_PART_BYTES at most, of a run, or of the one before it."""
        more = {"previous": "true"} if previous else {}
        limits = {"tailLines": str(LOG_END_LINES), "limitBytes": str(LOG_PART_BYTES)}
        return await self._log(namespace, pod, container=container, **limits, **more)

    async def _log(self, namespace: str, pod: str, **query: str) -> str:
        where = path("Pod", namespace, pod, "log")
        content = await self._send("GET", where, query, accept="*/*", seconds=LOG_SECONDS)
        return content.decode(errors="replace")

    async def _request(
        self,
        method: str,
        where: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Manifest:
        answer: Manifest = json.loads(await self._send(method, where, query, body, content_type))
        return answer

    async def _send(
        self,
        method: str,
        where: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        *,
        accept: str = "application/json",
        seconds: float = REQUEST_SECONDS,
    ) -> bytes:
        headers = {"Accept": accept, "Content-Type": content_type}
        url = f"{where}?{urlencode(query)}" if query else where
        method, url, headers, *_ = await self._api.param_serialize(
            method, url, header_params=headers, auth_settings=["BearerToken"]
        )
        if method != "GET":
            self.writes += 1
        try:
            response = await self._api.call_api(method, url, headers, body, _request_timeout=seconds)
            content: bytes = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(f"{method} {where}", 0, f"no answer: {error or type(error).__name__}") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(f"{method} {where}", response.status, _message(content))
        return content


def path(kind: str, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    api_version, plural = PATHS[kind]
    parts = [_root(api_version), *(("namespaces", namespace) if namespace else ()), plural, name, subresource]
    return "/".join(part for part in parts if part)


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content).get("message", ""))
    except (ValueError, AttributeError):
        return content[:500].decode(errors="replace")
