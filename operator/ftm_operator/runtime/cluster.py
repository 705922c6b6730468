"""Does the operator's only Kubernetes I/O: list, get, server-side apply, delete, status, Leases, Events, logs.

Objects are dicts, as the API server gives them. Each call is one request by the dynamic client, which is given its
resources in a table: its own discovery would ask for every API group first. Every write is by one field manager, and
counted.
"""

import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from kubernetes.aio import client, config
from kubernetes.aio.dynamic import DynamicClient, Resource

from ftm_operator.resources.metadata import MANAGER, Manifest
from ftm_operator.runtime.kinds import CHILD_SELECTOR, CHILDREN, PLURALS, VERSIONS, versions_of

HTTP_METHODS = {"get": "GET", "create": "POST", "replace": "PUT", "patch": "PATCH", "delete": "DELETE"}
"""The HTTP method of each method of the dynamic client that is used here."""
PAGE_SIZE = 500
REQUEST_SECONDS = 30.0
LEASE_REQUEST_SECONDS = 5.0
"""A Lease can be tried again before it expires."""
LOG_SECONDS = 3
"""A node that does not answer must not hold a pass."""
LOG_LINE_BYTES = 512
LOG_PART_BYTES = 256 * 1024
LOG_END_LINES = 500
APPLY_TYPE = "application/apply-patch+yaml; charset=utf-8"
"""With its charset, the client sends a body as it is given, and the API server reads it the same."""
MERGE_TYPE = "application/merge-patch+json"
_REFUSED_BY_YAML = re.compile("[\x7f-\uffff]")
_SURROGATES = re.compile("[\ud800-\udfff]")


class ApiError(Exception):
    """The API server refused a request, or did not answer (status 0)."""

    def __init__(self, request: str, status: int, message: str) -> None:
        super().__init__(f"{request}: {status} {message}" if status else f"{request}: {message}")
        self.status = status
        self.message = message


class StandingBy(Exception):
    """This operator may not write in the namespace now, since it does not hold its Lease."""


class NoCluster(Exception):
    """There is no API server to connect to."""


@dataclass(frozen=True)
class Listing:
    """The objects of one kind at one resource version."""

    items: list[Manifest]
    resource_version: int


@dataclass(frozen=True)
class _Target:
    """The object, or all objects of a kind, that a request is about."""

    kind: str
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None
    served: str | None = None
    """The API version, where it is another one than that of PLURALS."""

    @property
    def resource(self) -> Any:
        api_version, plural = PLURALS[self.kind]
        api_version = self.served or api_version
        group, _, version = api_version.rpartition("/")
        subresource = {"kind": self.kind, "name": f"{plural}/{self.subresource}", "namespaced": True}
        resource: Any = Resource(  # type: ignore[no-untyped-call]
            prefix="apis" if group else "api",
            group=group,
            api_version=version,
            kind=self.kind,
            name=plural,
            namespaced=True,
            subresources={self.subresource: subresource} if self.subresource else {},
        )
        return resource.subresources[self.subresource] if self.subresource else resource

    @property
    def path(self) -> str:
        return str(self.resource.path(self.name, self.namespace))


_NO_KUBECONFIG = (OSError, AttributeError, LookupError, TypeError, ValueError)
"""Raised by the client, beside its own error, for a file that is no text, or YAML without a kubeconfig's structure."""


async def _load_kubeconfig() -> None:
    """Reads KUBECONFIG, or ~/.kube/config. Raises NoCluster."""
    with _kubeconfig() as place:
        await config.load_kube_config(config_file=place)  # type: ignore[no-untyped-call]


@contextmanager
def _kubeconfig() -> Iterator[str]:
    """Yields the path of KUBECONFIG, or ~/.kube/config. Raises NoCluster where there is none, or it cannot be read."""
    place = os.environ.get("KUBECONFIG", "~/.kube/config")
    if not any(part and Path(part).expanduser().is_file() for part in place.split(os.pathsep)):
        raise NoCluster(f'there is no kubeconfig at "{place}"; set KUBECONFIG to one that names the cluster')
    try:
        yield place
    except (config.ConfigException, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        raise NoCluster(f'the kubeconfig "{place}" names no cluster ({text}); correct it') from error
    except _NO_KUBECONFIG as error:
        raise NoCluster(f'the kubeconfig "{place}" names no cluster, since it is no kubeconfig; correct it') from error


def current_namespace() -> str:
    """Returns the namespace of the kubeconfig's current context, or `default`. Raises NoCluster."""
    with _kubeconfig() as place:
        _, context = config.list_kube_config_contexts(place)  # type: ignore[no-untyped-call]
        return str(context["context"].get("namespace") or "default")


class Discovery:
    """Asks an API server what it serves."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._served: dict[str, str] = {}

    async def api_groups(self) -> frozenset[str]:
        """Returns the names of the API groups that the API server has, those of aggregated servers among them."""
        with _errors_of("GET /apis/"):
            groups = await client.ApisApi(self._api).get_api_versions(_request_timeout=REQUEST_SECONDS)
        return frozenset(group.name for group in groups.groups)

    async def kubernetes_version(self) -> str:
        """Returns the API server's version, as in v1.36.2."""
        with _errors_of("GET /version"):
            return str((await client.VersionApi(self._api).get_code(_request_timeout=REQUEST_SECONDS)).git_version)

    async def serves(self, kind: str) -> bool:
        """Returns whether the API server has the kind, which is not one of Kubernetes' own, in a version that we know.

        The first that it has is the one that is listed from then on.
        """
        for api_version in versions_of(kind):
            if await self._has(api_version, PLURALS[kind][1]):
                self._served[kind] = api_version
                return True
        return False

    async def _has(self, api_version: str, plural: str) -> bool:
        group, _, version = api_version.partition("/")
        custom = client.CustomObjectsApi(self._api)
        with _errors_of(f"GET {api_version}"):
            try:
                served = await custom.get_api_resources(group, version, _request_timeout=REQUEST_SECONDS)
            except client.ApiException as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    return False
                raise
        return any(resource.name == plural for resource in served.resources)


class Cluster(Discovery):
    """A connection to one API server."""

    def __init__(self, api: client.ApiClient) -> None:
        super().__init__(api)
        self._dynamic: Any = DynamicClient(api)  # type: ignore[no-untyped-call]
        self.writes = 0
        self.seconds_to_write: Callable[[str], float] = lambda _: REQUEST_SECONDS
        """For how long a namespace may be written in, but for its Lease; 0 or less if it may not."""

    @classmethod
    @asynccontextmanager
    async def connect(cls) -> AsyncIterator[Self]:
        """Connects by the pod's service account, else by KUBECONFIG. Raises NoCluster when there is neither."""
        try:
            config.load_incluster_config()  # type: ignore[no-untyped-call]
        except config.ConfigException:
            await _load_kubeconfig()
        async with client.ApiClient() as api:
            yield cls(api)

    async def list(self, kind: str, namespace: str | None = None, name: str | None = None) -> Listing:
        """Returns all objects of a kind, or those of a name; of children's kinds, those that the operator made."""
        query: dict[str, Any] = {"limit": PAGE_SIZE, "label_selector": CHILD_SELECTOR if kind in CHILDREN else None}
        if name is not None:
            query["field_selector"] = f"metadata.name={name}"
        items: list[Manifest] = []
        api_version, _ = PLURALS[kind]
        while True:
            page = await self._request("get", _Target(kind, namespace, served=self._served.get(kind)), **query)
            items.extend({"apiVersion": api_version, "kind": kind, **item} for item in page["items"])
            if not (token := page["metadata"].get("continue")):
                return Listing(items, int(page["metadata"]["resourceVersion"]))
            query["_continue"] = token

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Returns the object, or None when there is no such object."""
        try:
            return await self._request("get", _Target(kind, namespace, name, served=self._served.get(kind)))
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def apply(self, manifest: Manifest, subresource: str | None = None, manager: str = MANAGER) -> Manifest:
        """Applies on the server's side: fields of the manifest are ours, and ours that it leaves out are removed.

        Another manager than MANAGER takes no field from others: that is an ApiError of status 409.
        """
        target = _target_of(manifest, subresource)
        ours = {"field_manager": manager, "force_conflicts": manager == MANAGER, "content_type": APPLY_TYPE}
        return await self._request("patch", target, body=apply_body(manifest), **ours)

    async def annotate(
        self, manifest: Manifest, annotations: Mapping[str, str | None], manager: str = MANAGER
    ) -> Manifest | None:
        """Sets annotations of an object that another manager made, and removes those that are None.

        Returns the object, or None if it is gone.
        """
        body = {"metadata": {"uid": manifest["metadata"]["uid"], "annotations": annotations}}
        ours = {"field_manager": manager, "content_type": MERGE_TYPE}
        try:
            return await self._request("patch", _target_of(manifest), body=body, **ours)
        except ApiError as error:
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                return None
            raise

    async def delete(self, manifest: Manifest) -> None:
        """Deletes exactly this object, not a later one of the same name; one that is gone already is no error."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": manifest["metadata"]["uid"]}}
        try:
            await self._request("delete", _target_of(manifest), body=options)
        except ApiError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def write_lease(self, lease: Manifest) -> Manifest:
        """Creates a Lease that has no resourceVersion, and replaces one of the same version. Raises ApiError."""
        metadata = lease["metadata"]
        if "resourceVersion" in metadata:
            return await self._request("replace", _target_of(lease), body=lease)
        return await self._request("create", _Target("Lease", metadata["namespace"]), body=lease)

    async def create_event(self, event: Manifest) -> None:
        """Creates an Event in the namespace that it names."""
        await self._request("create", _Target("Event", event["metadata"]["namespace"]), body=event)

    async def events_of(self, namespace: str, kind: str, name: str, uid: str) -> Sequence[Manifest]:
        """Returns the Events of one object."""
        about = {"kind": kind, "name": name, **({"uid": uid} if uid else {})}
        selector = ",".join(f"involvedObject.{field}={value}" for field, value in about.items())
        page = await self._request("get", _Target("Event", namespace), limit=PAGE_SIZE, field_selector=selector)
        events: Sequence[Manifest] = page["items"]
        return events

    async def last_log_line(self, namespace: str, pod: str, container: str) -> str:
        """Returns the newest line of a container's log, cut at LOG_LINE_BYTES."""
        return (await self._log(namespace, pod, container=container, tailLines=1, limitBytes=LOG_LINE_BYTES)).strip()

    async def log_beginning(self, namespace: str, pod: str, container: str) -> str:
        """Returns the first LOG_PART_BYTES that a container's present run logged, each line after its time."""
        return await self._log(namespace, pod, container=container, limitBytes=LOG_PART_BYTES, timestamps="true")

    async def log_end(self, namespace: str, pod: str, container: str, *, previous: bool) -> str:
        """Returns the last LOG_END_LINES, LOG_PART_BYTES at most, of a run, or of the one before it."""
        run = {"previous": True} if previous else {}
        return await self._log(
            namespace, pod, container=container, tailLines=LOG_END_LINES, limitBytes=LOG_PART_BYTES, **run
        )

    async def log_tail(self, namespace: str, pod: str, container: str, lines: int, most_bytes: int) -> str:
        """Returns the last lines that a container's present run logged."""
        return await self._log(namespace, pod, container=container, tailLines=lines, limitBytes=most_bytes)

    async def _log(self, namespace: str, pod: str, **query: str | int) -> str:
        options = {"query_params": list(query.items()), "header_params": {"Accept": "*/*"}}
        content = await self._send(
            "get", _Target("Pod", namespace, pod, "log"), _request_timeout=LOG_SECONDS, **options
        )
        return content.decode(errors="replace")

    async def _request(self, verb: str, target: _Target, **options: Any) -> Manifest:
        seconds = LEASE_REQUEST_SECONDS if target.kind == "Lease" else REQUEST_SECONDS
        if verb != "get" and target.kind != "Lease":
            seconds = min(seconds, self.seconds_to_write(target.namespace or ""))
        if seconds <= 0:
            raise StandingBy(f"{HTTP_METHODS[verb]} {target.path}: this operator does not hold the namespace's Lease")
        answer: Manifest = json.loads(await self._send(verb, target, _request_timeout=seconds, **options))
        return answer

    async def _send(self, verb: str, target: _Target, **options: Any) -> bytes:
        """Calls the dynamic client's method of this name, and counts it unless it reads. Raises ApiError."""
        if verb != "get":
            self.writes += 1
        if target.name is not None:
            options["name"] = target.name
        with _errors_of(f"{HTTP_METHODS[verb]} {target.path}"):
            send = getattr(self._dynamic, verb)
            response = await send(target.resource, namespace=target.namespace, serialize=False, **options)
            content: bytes = await response.read()
        return content


def apply_body(manifest: Manifest) -> str:
    """Returns a manifest as the body of a server-side apply: JSON that is YAML too.

    The API server's YAML knows no pairs of surrogates, and refuses DEL as it is. So characters beyond U+FFFF stand as
    they are, and all others that are not ASCII are escaped. Half a pair of surrogates becomes U+FFFD.
    """
    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"))
    return _REFUSED_BY_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", _SURROGATES.sub("\ufffd", text))


def _target_of(manifest: Manifest, subresource: str | None = None) -> _Target:
    metadata, kind = manifest["metadata"], manifest["kind"]
    served = manifest.get("apiVersion") if kind in VERSIONS else None
    return _Target(kind, metadata["namespace"], metadata["name"], subresource, served)


@contextmanager
def _errors_of(request: str) -> Iterator[None]:
    """Raises the client's errors as ApiError, which names the request and says what the API server said."""
    try:
        yield
    except client.ApiException as error:
        raise ApiError(request, error.status or 0, _message(error.body or "")) from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ApiError(request, 0, f"no answer: {error or type(error).__name__}") from error


def _message(content: str) -> str:
    try:
        return str(json.loads(content).get("message", ""))
    except (ValueError, AttributeError):
        return content[:500]
