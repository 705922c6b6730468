"""Finds the endpoint that a person names: a URL, a manifest to serve here, or a FineTunedModel of the cluster."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.v1alpha1 import Artifacts
from ftm_operator.command import live_status
from ftm_operator.command.serving.local_model import served_manifest
from ftm_operator.command.serving.port_forward import forwarded
from ftm_operator.local.engine_client import ListedModel, served_models
from ftm_operator.local.errors import WrongUse
from ftm_operator.local.paths import exists

KEY_VARIABLE = "OPENAI_API_KEY"
"""The environment variable with the key of an endpoint that asks for one, as OpenAI's own clients read it."""
MANIFEST_ENDINGS = (".yaml", ".yml", ".json")
HTTP_PORT = 80


@dataclass(frozen=True)
class NamedEndpoint:
    """An OpenAI-compatible endpoint that a person named."""

    title: str
    """The name, URL or path that was typed."""
    url: str
    """The address from here, without /v1 behind it."""
    model: str
    """The value of `model` that is asked unless another is chosen."""
    models: tuple[ListedModel, ...]
    """Every model that the endpoint lists, in its order."""
    merged: Artifact | None = None
    """The merged model behind it, where that is known."""
    note: str | None = None
    """A remark on how it is reached."""

    @property
    def api_key(self) -> str | None:
        return key_of_environment()


def is_url(target: str) -> bool:
    return target.startswith(("http://", "https://"))


def is_manifest(target: str) -> bool:
    return target.endswith(MANIFEST_ENDINGS) or exists(target)


def without_v1(url: str) -> str:
    """Returns an endpoint's address, behind which a person may have typed /v1."""
    return url.rstrip("/").removesuffix("/v1")


def key_of_environment() -> str | None:
    """Returns the key that endpoints are shown."""
    return os.environ.get(KEY_VARIABLE) or None


@contextlib.contextmanager
def named_endpoint(target: str, namespace: str | None) -> Iterator[NamedEndpoint]:
    """Yields the endpoint while it can be asked. Raises LocalError saying what to write instead."""
    if is_url(target):
        url = without_v1(target)
        models = served_models(url, key_of_environment())
        yield NamedEndpoint(target, url, models[0].name, models)
    elif is_manifest(target):
        with served_manifest(Path(target)) as local_model:
            client = local_model.engine.client
            merged = local_model.built[0] if local_model.built else None
            yield NamedEndpoint(target, client.url, client.model_name, served_models(client.url, None), merged)
    else:
        yield from _in_cluster(target, live_status.namespace_of(namespace))


def _in_cluster(name: str, namespace: str) -> Iterator[NamedEndpoint]:
    status = live_status.status_of(namespace, name)
    if status.endpoint is None or status.plan is None:
        raise WrongUse(f"{name} is not served yet; see `kubectl describe ftm {name}`")
    port = urlsplit(status.endpoint).port or HTTP_PORT
    replicas = status.ready_replicas or 0
    note = f"a port-forward leads to one of the {replicas} replicas" if replicas > 1 else None
    with forwarded(namespace, name, port) as url:
        models = served_models(url, key_of_environment())
        built = status.artifacts or Artifacts()
        yield NamedEndpoint(name, url, str(status.plan.served_model_name), models, built.merged, note)


def check_served(endpoint: NamedEndpoint, models: Sequence[str]) -> None:
    """Raises WrongUse naming the first model that the endpoint does not list, and those that it does."""
    listed = [each.name for each in endpoint.models]
    if missing := [name for name in models if name not in listed]:
        raise WrongUse(f"{endpoint.title} serves no model {missing[0]}; it lists {', '.join(listed)}")
