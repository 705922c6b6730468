"""Lets the newest version of a model go on: `ftm promote`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from ftm_operator.api.v1alpha1 import PROMOTE_ANNOTATION, SERVE_VERSION_ANNOTATION, CanaryProgress
from ftm_operator.command import live_status
from ftm_operator.command.options import NameArgument, NamespaceOption
from ftm_operator.command.serving.versions import ModelVersions, versions_of
from ftm_operator.local.errors import WrongUse


@dataclass(frozen=True)
class Promotion:
    """The annotations that a promotion sets or removes, and what comes of it."""

    annotations: Mapping[str, str | None]
    said: str


def promote(
    name: NameArgument,
    namespace: NamespaceOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Give a Canary all requests, without the steps that are left.")
    ] = False,
) -> None:
    """Let the newest version of a model in the cluster go on.

    After `ftm rollback` the model serves what its spec means again. A Canary goes on to its next step, or with --all to
    all requests. A version that was rolled back by itself is tried again.
    """
    found = versions_of(namespace, name)
    promotion = promoted(found, everything=everything)
    live_status.annotate(found.resource, promotion.annotations)
    print(promotion.said)


def promoted(found: ModelVersions, *, everything: bool) -> Promotion:
    """Returns what is to be annotated. Raises WrongUse where nothing waits for a person."""
    if found.pin:
        said = f"{found.name} serves what its spec means again: version {found.pin} is no longer asked for."
        if found.resource["spec"].get("serving", {}).get("strategy") == "Canary":
            said += " Another version comes by the steps of its Canary."
        return Promotion({SERVE_VERSION_ANNOTATION: None}, said)
    progress = found.status.canary
    if progress and progress.state in ("Starting", "Sharing"):
        return _next_step(found, progress, everything=everything)
    if progress and progress.state == "Replacing":
        raise WrongUse(f"the Canary {progress.key} of {found.name} has its last step behind it; nothing waits for you")
    if (failed := found.in_state("RolledBack")) and _is_rolled_back(found):
        key = failed[0].key
        return Promotion(
            {PROMOTE_ANNOTATION: _another(failed[0].promoted, key, f"{key}/again")},
            f"{found.name} tries version {key} again, from the first step of its Canary. It was rolled back before: "
            f"{failed[0].message or 'no reason is known'}",
        )
    raise WrongUse(
        f"{found.name} has no Canary, no version that `ftm rollback` asked for, and none that was rolled back: nothing "
        "is to be promoted"
    )


def _next_step(found: ModelVersions, progress: CanaryProgress, *, everything: bool) -> Promotion:
    key, steps, step = progress.key, found.canary.steps, progress.step
    begins = step + 1 < len(steps) and not everything
    share = f"{steps[step + 1].weight} percent of the requests" if begins else "all requests"
    value = _another(progress.promoted, key, f"{key}/all") if everything else f"{key}/{step}"
    when = "" if progress.state == "Sharing" else " as soon as its Pods answer"
    return Promotion({PROMOTE_ANNOTATION: value}, f"the Canary {key} of {found.name} gets {share}{when}.")


def _another(followed: str | None, value: str, instead: str) -> str:
    """Returns the value, or the other one where the operator has followed it before."""
    return value if value != followed else instead


def _is_rolled_back(found: ModelVersions) -> bool:
    """Tells whether it is the version that the spec means now."""
    return any(each.type == "Stalled" and each.reason == "RolledBack" for each in found.status.conditions)
