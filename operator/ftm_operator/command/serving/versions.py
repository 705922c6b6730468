"""Lists the versions of a model in the cluster: `ftm versions`; and finds those that other commands name."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftm_operator.api.spec.canary import Canary
from ftm_operator.api.v1alpha1 import SERVE_VERSION_ANNOTATION, FineTunedModelStatus, Version, VersionState
from ftm_operator.command import live_status
from ftm_operator.command.options import NameArgument, NamespaceOption, OutputFormat, OutputOption
from ftm_operator.local.errors import WrongUse
from ftm_operator.resources.metadata import Manifest

FEWEST_DIGITS = 4
"""Digits of a key by which a version can be named."""


@dataclass(frozen=True)
class ModelVersions:
    """A FineTunedModel of the cluster with the versions that its status tells of."""

    resource: Manifest
    status: FineTunedModelStatus

    @property
    def name(self) -> str:
        return str(self.resource["metadata"]["name"])

    @property
    def annotations(self) -> dict[str, str]:
        return self.resource["metadata"].get("annotations") or {}

    @property
    def pin(self) -> str | None:
        """The key of the version that is to serve whatever the spec means."""
        return self.annotations.get(SERVE_VERSION_ANNOTATION)

    @property
    def versions(self) -> Sequence[Version]:
        return self.status.versions or ()

    @property
    def canary(self) -> Canary:
        """Returns the steps of a Canary, as the spec has them or as they are by default."""
        return Canary.model_validate(self.resource["spec"].get("serving", {}).get("canary") or {})

    def in_state(self, state: VersionState) -> list[Version]:
        """Returns the versions in a state; those that came into it last are first."""
        found = [each for each in self.versions if each.state == state]
        return sorted(found, key=lambda each: each.since.timestamp() if each.since else 0.0, reverse=True)

    def named(self, prefix: str) -> Version:
        """Returns the version whose key begins so. Raises WrongUse naming the keys that there are."""
        found = [each for each in self.versions if each.key.startswith(prefix)]
        if len(prefix) >= FEWEST_DIGITS and len(found) == 1:
            return found[0]
        there = ", ".join(f"{each.key} ({each.state})" for each in self.versions)
        if len(prefix) < FEWEST_DIGITS:
            raise WrongUse(
                f"--to {prefix!r} is too short; write {FEWEST_DIGITS} digits or more of a key of {self.name}: {there}"
            )
        if found:
            raise WrongUse(f"--to {prefix} names {len(found)} versions of {self.name}; write more digits: {there}")
        raise WrongUse(f"{self.name} has no version {prefix}; it has {there}")


def versions_of(namespace: str | None, name: str) -> ModelVersions:
    """Reads a model's versions. Raises LocalError naming what cannot be read or is not there."""
    resource = live_status.resource_of(namespace, name)
    found = ModelVersions(resource, live_status.status_in(resource))
    if not found.versions:
        raise WrongUse(f"no version of {name} has served yet; see `kubectl describe ftm {name}`")
    return found


def versions(name: NameArgument, namespace: NamespaceOption = None, output: OutputOption = OutputFormat.TABLE) -> None:
    """List the versions of a model in the cluster: which has which share of the requests, and which can come back."""
    found = versions_of(namespace, name)
    if output is OutputFormat.JSON:
        print(json.dumps([each.to_json() for each in found.versions], indent=2))
    else:
        print("\n".join(format_versions(found)))


def format_versions(found: ModelVersions) -> Iterator[str]:
    """Yields a line for each version, and what a person set on the model."""
    yield f"{'KEY':<16}  {'STATE':<10}  {'WEIGHT':>6}  {'SINCE':<20}  ARTIFACT"
    for each in found.versions:
        weight = "" if each.weight is None else f"{each.weight} %"
        since = f"{each.since:%Y-%m-%dT%H:%M:%SZ}" if each.since else ""
        yield f"{each.key:<16}  {each.state:<10}  {weight:>6}  {since:<20}  {each.uri or ''}".rstrip()
        if each.message:
            yield f"{'':<16}  {each.message}"
    if found.pin:
        yield f"\n{SERVE_VERSION_ANNOTATION} asks for {found.pin}; `ftm promote {found.name}` removes that"
