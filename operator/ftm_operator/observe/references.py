"""Finds the artifacts that a cluster refers to, so that no one removes what is served or about to be. Pure."""

import json
import re
from collections.abc import Iterable
from typing import Any

from ftm_jobs.contract.keys import ARTIFACT_KEY
from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.input_hashes import merged_key
from ftm_operator.resources.metadata import Manifest


def references(models: Iterable[Manifest], adapters: Iterable[Manifest], children: Iterable[Manifest]) -> set[str]:
    """Returns keys of artifacts that the resources name in their status, are building, or let their Pods fetch.

    `adapters` are FineTunedAdapters. `children` are Deployments, LeaderWorkerSets, Pods, and the ControllerRevisions of
    versions: an older Pod may start again, or be made again, and fetches what it was made for.
    """
    keys: set[str] = set()
    for resource in models:
        status = resource.get("status", {})
        keys |= _keys_in([status.get("artifacts"), status.get("versions")])
        keys |= _wanted(resource)
    keys |= _keys_in([adapter.get("status", {}).get("artifact") for adapter in adapters])
    return keys | _keys_in([[child.get("spec"), child.get("data")] for child in children])


def _keys_in(value: Any) -> set[str]:
    return set(re.findall(ARTIFACT_KEY, json.dumps(value)))


def _wanted(resource: Manifest) -> set[str]:
    """Returns the key of the merge that the facts in status ask for, complete or not."""
    try:
        model = parse(FineTunedModel, resource)
    except InvalidManifest:
        return set()
    if model.spec.mode == "Dynamic":
        return set()
    if not model.status or not model.status.facts or len(model.status.facts.adapters) != len(model.spec.adapters):
        return set()
    return {merged_key(model.spec, model.status.facts)}
