"""Lists the adapters that engines hold: `ftm adapters`."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ftm_jobs.contract.run_time_adapters import HeldAdapter, HeldAdapters
from ftm_operator.api.v1alpha1 import KIND
from ftm_operator.command import live_status
from ftm_operator.command.options import NamespaceOption, OutputFormat, OutputOption
from ftm_operator.command.serving.endpoint import is_manifest, is_url, key_of_environment, without_v1
from ftm_operator.command.serving.local_model import served_manifest
from ftm_operator.local.adapters import standing
from ftm_operator.local.engine_client import served_models
from ftm_operator.local.errors import LocalError, WrongUse
from ftm_operator.resources.metadata import NAME
from ftm_operator.runtime.cluster import ApiError, Cluster, NoCluster
from ftm_operator.runtime.logs.adapter_reports import AdapterReports

MOST_ADAPTERS = 4096
"""Adapters of which a log is read."""


def adapters(
    target: Annotated[
        str, typer.Argument(metavar="NAME|URL|MANIFEST", help="A FineTunedModel, an endpoint, or a file to serve here.")
    ],
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the adapters that each serving pod holds, and why it does not hold others.

    Of a FineTunedModel it reads what the pods' agents log; of an endpoint, what it lists; a manifest's adapters are
    loaded by an engine here, as `ftm run` does, and the engine is stopped again.
    """
    if is_url(target):
        listed = [each.name for each in served_models(without_v1(target), key_of_environment()) if each.parent]
        print(
            json.dumps({target: [{"name": name} for name in listed]}, indent=2)
            if _is_json(output)
            else "\n".join(listed)
        )
        return
    held = _held_here(target) if is_manifest(target) else _held_in_cluster(live_status.namespace_of(namespace), target)
    if _is_json(output):
        print(json.dumps({pod: [each.to_json() for each in found.adapters] for pod, found in held.items()}, indent=2))
    else:
        print("\n\n".join(format_pod(pod, found) for pod, found in held.items()))


def format_pod(pod: str, held: HeldAdapters) -> str:
    """Returns a row for each adapter of a pod."""
    ready = "" if held.engine_ready else ", whose engine does not answer"
    unloaded = f", {held.unloaded} unloaded since its start" if held.unloaded else ""
    return "\n".join([f"{pod}: {len(held.adapters)} adapters{ready}{unloaded}", *map(_row, held.adapters)])


def _row(adapter: HeldAdapter) -> str:
    former = ", answers as its former version" if adapter.serving not in (None, adapter.digest) else ""
    return f"  {standing(adapter)}{former}"


def _is_json(output: OutputFormat) -> bool:
    return output is OutputFormat.JSON


def _held_here(manifest: str) -> Mapping[str, HeldAdapters]:
    with served_manifest(Path(manifest)) as local_model:
        if local_model.held is None:
            raise WrongUse(f"{manifest} merges its adapters; set spec.mode: Dynamic to serve them beside the base")
        return {"this machine": local_model.held}


def _held_in_cluster(namespace: str, name: str) -> Mapping[str, HeldAdapters]:
    """Returns what engines hold, by the names of the pods. Raises LocalError."""
    try:
        held = asyncio.run(_read(namespace, name))
    except (ApiError, NoCluster) as error:
        raise LocalError(f"the pods of {namespace}/{name} cannot be read: {error}") from None
    if held is None:
        raise WrongUse(f"there is no FineTunedModel {name} in namespace {namespace}; name its namespace with -n")
    if not held:
        raise WrongUse(f"no pod of {name} has told what adapters it holds; see `kubectl describe ftm {name}`")
    return held


async def _read(namespace: str, name: str) -> Mapping[str, HeldAdapters] | None:
    async with Cluster.connect() as cluster:
        if await cluster.get(KIND, namespace, name) is None:
            return None
        listed = (await cluster.list("Pod", namespace)).items
        pods = [pod for pod in listed if pod["metadata"].get("labels", {}).get(NAME) == name]
        reports = AdapterReports(cluster)
        await reports.read((namespace, name), pods, None, MOST_ADAPTERS)
        return reports.held((namespace, name))
