"""Reads one FineTunedModel of a cluster for the commands that show what the operator found."""

import asyncio

from ftm_operator.api.status import readable
from ftm_operator.api.v1alpha1 import KIND, FineTunedModelStatus
from ftm_operator.local.errors import LocalError, WrongUse
from ftm_operator.runtime.cluster import ApiError, Cluster, NoCluster


def status_of(namespace: str, name: str) -> FineTunedModelStatus:
    """Raises LocalError naming what cannot be reached or is not there."""
    try:
        resource = asyncio.run(_get(namespace, name))
    except (ApiError, NoCluster) as error:
        raise LocalError(f"FineTunedModel {namespace}/{name} cannot be read: {error}") from None
    if resource is None:
        raise WrongUse(f"there is no FineTunedModel {name} in namespace {namespace}; name its namespace with -n")
    return FineTunedModelStatus.model_validate(readable(resource.get("status") or {}))


async def _get(namespace: str, name: str) -> dict[str, object] | None:
    async with Cluster.connect() as cluster:
        return await cluster.get(KIND, namespace, name)
