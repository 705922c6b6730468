"""Reads objects in this process, by the names that kubectl knows them by.

Tests look at the same objects many times a second; a kubectl for each look would take from a small machine the time
that they wait for.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from kubernetes import config
from urllib3.exceptions import HTTPError

DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class ReadError(Exception):
    """An object could not be read; the message is the API server's own words, where it answered."""


class Reads:
    """Reads by the rights of one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        connect: Any = config.new_client_from_config
        self._client = connect(config_file=str(kubeconfig), persist_config=False)
        self._kinds: dict[str, dict[str, Any]] = {}

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        path = self._path(kind, namespace)
        return self._asked(f"{path}/{name}")

    def list(self, kinds: str, namespace: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Returns the objects of one kind, or of several that commas part, each with its kind and apiVersion."""
        found: list[dict[str, Any]] = []
        for kind in kinds.split(","):
            path = self._path(kind, namespace)
            listed = self._asked(path, query)
            own = {"apiVersion": listed["apiVersion"], "kind": listed["kind"].removesuffix("List")}
            found += [own | item for item in listed["items"]]
        return found

    def _path(self, kind: str, namespace: str) -> str:
        """Returns where objects of a kind are. Raises ReadError for a kind that the API server does not know."""
        if kind.lower() not in self._kinds:
            self._kinds = self._known()  # a CRD may have come since
        if not (known := self._kinds.get(kind.lower())):
            raise ReadError(f'error: the server doesn\'t have a resource type "{kind}"')
        place = f"/namespaces/{namespace}" if known["scope"] == "Namespaced" else ""
        return f"{known['base']}{place}/{known['resource']}"

    def _known(self) -> dict[str, dict[str, Any]]:
        """Returns the served resources by plural, singular, short name and kind; the first group that has it wins."""
        kinds: dict[str, dict[str, Any]] = {}
        for root in ("/api", "/apis"):
            for group in self._asked(root, accept=DISCOVERY)["items"]:
                name = group["metadata"].get("name")
                version = group["versions"][0]
                base = f"/apis/{name}/{version['version']}" if name else f"/api/{version['version']}"
                for each in version["resources"]:
                    names = (each["resource"], each["singularResource"], each["responseKind"]["kind"].lower())
                    for one in (*names, *each.get("shortNames", ())):
                        kinds.setdefault(one, {"base": base, **each})
        return kinds

    def _asked(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = "application/json"
    ) -> dict[str, Any]:
        asked = f"{path}?{urlencode(query)}" if query else path
        call = self._client.param_serialize(
            "GET", asked, header_params={"Accept": accept}, auth_settings=["BearerToken"]
        )
        try:
            response = self._client.call_api(*call)
        except HTTPError as error:
            raise ReadError(str(error)) from error
        answer: dict[str, Any] = json.loads(response.read())
        if response.status != 200:
            raise ReadError(f"Error from server ({answer.get('reason')}): {answer.get('message')}")
        return answer


@cache
def _reads(kubeconfig: Path, changed_at: int) -> Reads:
    del changed_at
    return Reads(kubeconfig)


def reads(kubeconfig: Path) -> Reads:
    """Returns the reader of a kubeconfig as it is now; another cluster may have been written to the same file."""
    return _reads(kubeconfig, kubeconfig.stat().st_mtime_ns)
