"""Shows and cleans a store of artifacts: `ftm artifacts list|show|verify|gc`.

The Jobs' own command does the work; this asks the cluster for the artifacts that it refers to, and prints results.
"""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ftm_jobs.contract.byte_counts import format_bytes_in_column as column
from ftm_jobs.contract.keys import QuantizedBase
from ftm_jobs.contract.manifest import Catalogue, Manifest, StoredArtifact
from ftm_jobs.contract.steps import Outcome, Step
from ftm_operator.api import fine_tuned_adapter
from ftm_operator.api.v1alpha1 import KIND
from ftm_operator.command.options import OutputFormat, OutputOption, WholeSummary
from ftm_operator.command.sources import source
from ftm_operator.local import steps as local
from ftm_operator.local.errors import LocalError, StepFailed, WrongUse
from ftm_operator.observe.references import references
from ftm_operator.resources.serving.leader_worker_set import KIND as LEADER_WORKER_SET
from ftm_operator.resources.versions.controller_revision import KIND as CONTROLLER_REVISION
from ftm_operator.runtime.cluster import ApiError, Cluster, NoCluster
from ftm_operator.runtime.kinds import OPTIONAL

artifacts = typer.Typer(
    help="List, show, verify or remove what a store of artifacts holds.", no_args_is_help=True, rich_markup_mode=None
)
REFERRING = ("Deployment", LEADER_WORKER_SET, "Pod", CONTROLLER_REVISION)
"""Kinds of children whose pods fetch artifacts, or would if their version served again."""
StoreArgument = Annotated[str, typer.Argument(metavar="STORE_URI", help="s3://bucket/prefix or a path.")]


@artifacts.command("list", cls=WholeSummary)
def list_artifacts(store: StoreArgument, output: OutputOption = OutputFormat.TABLE) -> None:
    """Show every artifact: its size, its inputs, and whether it is complete."""
    _show(_run("list", store), output)


@artifacts.command(cls=WholeSummary)
def show(
    store: StoreArgument, key: Annotated[str, typer.Argument(metavar="KEY")], output: OutputOption = OutputFormat.TABLE
) -> None:
    """Show what an artifact was made of, and its files."""
    catalogue = _run("show", store, key)
    assert catalogue.manifest is not None
    if output is OutputFormat.JSON:
        print(json.dumps(catalogue.manifest.to_json(), indent=2))
    else:
        print(format_manifest(catalogue.manifest))


@artifacts.command(cls=WholeSummary)
def verify(
    store: StoreArgument,
    key: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="All complete ones without a key.")
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Read every file of artifacts and prove its sha256; exit code 2 when one is not as it was written."""
    _show(_run("verify", store, *(key or [])), output)


@artifacts.command(cls=WholeSummary)
def gc(
    store: StoreArgument,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Keep this artifact, and ask no cluster; can be repeated."),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Do it; without this only say what would be done.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Remove artifacts that nothing refers to, and what killed merges left a day ago or before.

    What refers to artifacts are the FineTunedModels and FineTunedAdapters of the cluster that kubeconfig points to, in
    all namespaces, and their Pods. If several clusters share the store, name what to keep with --keep.
    """
    kept = sorted(set(keep) if keep else _referred_to())
    _show(_run("gc", store, *(["--delete"] if delete else []), "--keep", *kept), output)


def format_artifacts(catalogue: Catalogue, now: datetime) -> str:
    """Returns a row for each artifact, with its inputs and notes below."""
    lines: list[str] = []
    for artifact in catalogue.artifacts:
        state = "complete" if artifact.complete else "incomplete"
        lines.append(f"{artifact.key}  {state:<10}  {column(artifact.total_bytes):>10}  {_age(artifact, now)}".rstrip())
        lines += [f"  {one.role:<8} {one.uri}" + _scale(one.scale) for one in artifact.inputs]
        lines += [f"  note     {note}" for note in artifact.notes]
    return "\n".join([*lines, catalogue.message])


def format_manifest(manifest: Manifest) -> str:
    """Returns an artifact's manifest in words: its recipe, tools, inputs, measurements and files."""
    lines = [manifest.key, f"  {'made by':<9} {manifest.step}, recipe {manifest.recipe}"]
    if manifest.quantized_base is not QuantizedBase.FULL_PRECISION:
        lines.append(f"  {'base as':<9} {manifest.quantized_base}")
    if manifest.max_shard_size is not None:
        lines.append(f"  {'files of':<9} at most {manifest.max_shard_size} bytes")
    if manifest.dtype is not None:
        lines.append(f"  {'dtype':<9} {manifest.dtype}")
    lines += [f"  {name:<9} {version}" for name, version in sorted(manifest.tools.items())]
    for manifest_input in manifest.inputs:
        lines += [
            f"  {manifest_input.role:<9} {manifest_input.uri}{_scale(manifest_input.scale)}",
            f"  {'':<9} {manifest_input.digest}",
        ]
    lines += [f"  {name:<9} {value}" for name, value in sorted(manifest.measurements.items())]
    width = max((len(file.path) for file in manifest.files), default=0)
    lines += [f"  {file.path:<{width}}  {column(file.size):>10}  sha256:{file.sha256}" for file in manifest.files]
    total = sum(file.size for file in manifest.files)
    return "\n".join([*lines, f"{len(manifest.files)} files, {column(total)}"])


def _scale(scale: float | None) -> str:
    return "" if scale in (None, 1) else f" x {scale:g}"


def _age(artifact: StoredArtifact, now: datetime) -> str:
    if artifact.written is None:
        return ""
    minutes = max(0, int((now - artifact.written).total_seconds() // 60))
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes >= size:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


def _run(action: str, store: str, *arguments: str) -> Catalogue:
    """Raises LocalError unless the command did what it was asked, or found artifacts that are wrong."""
    code, line = local.last_line(Step.ARTIFACTS, [action, source(store), *arguments])
    try:
        catalogue = Catalogue.model_validate_json(line)
    except ValidationError:
        raise LocalError(f"artifacts {action} ended with exit code {code} and no answer") from None
    if catalogue.outcome != Outcome.DONE and not catalogue.artifacts:
        raise StepFailed(f"{catalogue.reason}: {catalogue.message}", code)
    return catalogue


def _show(catalogue: Catalogue, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print(json.dumps(catalogue.to_json(), indent=2))
    else:
        print(format_artifacts(catalogue, datetime.now(UTC)))
    if catalogue.outcome != Outcome.DONE:
        raise typer.Exit(WrongUse.exit_code)


def _referred_to() -> set[str]:
    """Raises LocalError when the cluster cannot be asked, or refers to nothing."""
    try:
        observed = asyncio.run(_observe())
    except (ApiError, NoCluster) as error:
        message = (
            f"the cluster cannot be asked which artifacts it refers to: {error}; name the artifacts to keep: --keep KEY"
        )
        raise WrongUse(message) from None
    keys = references(observed.models, observed.adapters, observed.children)
    resources = f"{len(observed.models)} FineTunedModels"
    if observed.adapters:
        resources += f" and {len(observed.adapters)} FineTunedAdapters"
    if not keys:
        raise WrongUse(
            f"the cluster's {resources} refer to no artifact, so all would go; if this is the right "
            "cluster, name the artifacts to keep: --keep KEY"
        )
    local.say(f"{resources} refer to {len(keys)} artifacts")
    return keys


@dataclass(frozen=True)
class _Observed:
    """The objects of a cluster that may refer to artifacts."""

    models: list[Any]
    adapters: list[Any]
    children: list[Any]


async def _observe() -> _Observed:
    async with Cluster.connect() as cluster:
        models = (await cluster.list(KIND)).items
        has_adapters = await cluster.serves(fine_tuned_adapter.KIND)
        adapters = (await cluster.list(fine_tuned_adapter.KIND)).items if has_adapters else []
        kinds = [kind for kind in REFERRING if kind not in OPTIONAL or await cluster.serves(kind)]
        children = [item for kind in kinds for item in (await cluster.list(kind)).items]
    return _Observed(models, adapters, children)
