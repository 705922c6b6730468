"""Brings an earlier version of a model back: `ftm rollback`."""

from typing import Annotated

import typer

from ftm_operator.api.v1alpha1 import SERVE_VERSION_ANNOTATION, Version
from ftm_operator.command import live_status
from ftm_operator.command.options import NameArgument, NamespaceOption
from ftm_operator.command.serving.versions import ModelVersions, versions_of
from ftm_operator.local.errors import WrongUse


def rollback(
    name: NameArgument,
    namespace: NamespaceOption = None,
    to: Annotated[
        str | None, typer.Option(metavar="KEY", help="The version, by 4 digits or more of what `ftm versions` lists.")
    ] = None,
) -> None:
    """Serve an earlier version of a model in the cluster, whatever its spec says, until `ftm promote`.

    A Canary is removed. Else it is the version that served before, or the one that --to names. Nothing is built anew,
    and the spec is left as it is: the annotation ftm.dev/serve-version is set.
    """
    found = versions_of(namespace, name)
    version = earlier_version(found, to)
    if found.pin != version.key:
        live_status.annotate(found.resource, {SERVE_VERSION_ANNOTATION: version.key})
    print(said(found, version))


def earlier_version(found: ModelVersions, to: str | None) -> Version:
    """Returns the version that is to serve. Raises WrongUse saying which there are."""
    if to is not None:
        version = found.named(to)
        if version.state == "RolledBack":
            raise WrongUse(
                f"version {version.key} of {found.name} was rolled back and is not kept"
                f"{f' ({version.message})' if version.message else ''}; `ftm promote {found.name}` tries it again"
            )
        return version
    serving, kept = found.in_state("Serving"), found.in_state("Kept")
    if serving and found.in_state("Canary"):
        return serving[0]
    if found.pin and serving:
        kept = [each for each in kept if (each.generation or 0) < (serving[0].generation or 0)]
    if not kept:
        earlier = f"earlier than {serving[0].key}" if serving else "that served before"
        raise WrongUse(
            f"no version of {found.name} {earlier} is kept, and spec.serving.keptVersions says how many are: put the "
            "former sources into the spec"
        )
    return kept[0]


def said(found: ModelVersions, version: Version) -> str:
    """Returns what is done and what comes next."""
    serving, canaries = found.in_state("Serving"), found.in_state("Canary")
    former = serving[0].key if serving else "what serves now"
    if version.state == "Canary":
        follows = f"it takes the place of {former} at once, without the steps that are left"
    elif canaries:
        follows = f"the Canary {canaries[0].key} gets no more requests and is removed"
        if version.state != "Serving":
            follows += f", and {version.key} takes the place of {former}"
    elif version.state == "Serving":
        follows = "it serves already, and a change of the spec does not roll out"
    else:
        follows = f"its Pods take the place of those of {former}, and nothing is built anew"
    return (
        f"{found.name} is to serve version {version.key}: {follows}. "
        f"The spec is as it was; `ftm promote {found.name}` goes back to what it means."
    )
