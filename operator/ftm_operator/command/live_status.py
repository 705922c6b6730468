"""Reads one FineTunedModel of a cluster for the commands that show what the operator found, or annotate it."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus

from ftm_operator.api.status import readable
from ftm_operator.api.v1alpha1 import KIND, FineTunedModelStatus
from ftm_operator.local.errors import LocalError, WrongUse
from ftm_operator.resources.metadata import Manifest
from ftm_operator.runtime.cluster import ApiError, Cluster, NoCluster, current_namespace

FIELD_MANAGER = "ftm"
"""The field manager of what a person writes by `ftm`. Flux takes back what those of kubectl write."""


def namespace_of(option: str | None) -> str:
    """Returns the namespace of --namespace, or the kubeconfig's current one. Raises LocalError."""
    try:
        return option or current_namespace()
    except NoCluster as error:
        raise LocalError(str(error)) from None


def status_of(namespace: str | None, name: str) -> FineTunedModelStatus:
    """Raises LocalError naming what cannot be reached or is not there; None is the kubeconfig's current namespace."""
    return status_in(resource_of(namespace, name))


def status_in(resource: Manifest) -> FineTunedModelStatus:
    """Returns the status of a FineTunedModel as far as it can be read."""
    return FineTunedModelStatus.model_validate(readable(resource.get("status") or {}))


def resource_of(namespace: str | None, name: str) -> Manifest:
    """Raises LocalError naming what cannot be reached or is not there; None is the kubeconfig's current namespace."""
    namespace = namespace_of(namespace)
    try:
        resource = asyncio.run(_get(namespace, name))
    except (ApiError, NoCluster) as error:
        raise LocalError(f"FineTunedModel {namespace}/{name} cannot be read: {error}") from None
    if resource is None:
        raise WrongUse(f"there is no FineTunedModel {name} in namespace {namespace}; name its namespace with -n")
    return resource


def annotate(resource: Manifest, annotations: Mapping[str, str | None]) -> None:
    """Sets annotations by the rights of whoever calls, and removes those that are None. Raises LocalError."""
    namespace, name = resource["metadata"]["namespace"], resource["metadata"]["name"]
    try:
        annotated = asyncio.run(_annotate(resource, annotations))
    except (ApiError, NoCluster) as error:
        right = ""
        if isinstance(error, ApiError) and error.status == HTTPStatus.FORBIDDEN:
            right = "; it takes the right to patch finetunedmodels in this namespace, which the role `edit` has"
        raise LocalError(f"FineTunedModel {namespace}/{name} cannot be annotated: {error}{right}") from None
    if annotated is None:
        raise LocalError(
            f"FineTunedModel {namespace}/{name} was deleted meanwhile; see `kubectl get ftm -n {namespace}`"
        )


async def _get(namespace: str, name: str) -> Manifest | None:
    async with Cluster.connect() as cluster:
        return await cluster.get(KIND, namespace, name)


async def _annotate(resource: Manifest, annotations: Mapping[str, str | None]) -> Manifest | None:
    async with Cluster.connect() as cluster:
        return await cluster.annotate(resource, annotations, FIELD_MANAGER)
