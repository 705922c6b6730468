"""Builds the ControllerRevision that keeps a version of what serves, and reads it.

Its data cannot change; its number does, as with Kubernetes' own: the version that serves has the highest.
"""

from typing import Any

from pydantic import ValidationError

from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.metadata import Manifest, metadata
from ftm_operator.resources.serving.kept_template import EXPLANATIONS
from ftm_operator.resources.serving.serving_labels import serving_labels
from ftm_operator.resources.versions.stored_version import StoredVersion

KIND = "ControllerRevision"
API_VERSION = "apps/v1"
PLURAL = "controllerrevisions"


def controller_revision(model: FineTunedModel, version: StoredVersion, number: int) -> Manifest:
    """Returns the ControllerRevision of a version."""
    data = {
        "key": version.key,
        "child": version.child,
        "plan": version.plan.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=EXPLANATIONS),
        "uri": version.uri,
        "digest": version.digest,
        "generation": version.generation,
    }
    return numbered(model, version, number, data)


def renumbered(model: FineTunedModel, revision: Manifest, version: StoredVersion, number: int) -> Manifest:
    """Returns the ControllerRevision with another number and the same data."""
    return numbered(model, version, number, revision["data"])


def numbered(model: FineTunedModel, version: StoredVersion, number: int, data: Any) -> Manifest:
    """Returns the ControllerRevision with this number and these data."""
    name = f"{model.metadata.name}-{version.key}"
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": metadata(model, name, serving_labels(model, version.plan.engine)),
        "data": data,
        "revision": number,
    }


def stored_version(revision: Manifest) -> StoredVersion | None:
    """Returns the version that a ControllerRevision keeps; None if this operator cannot read it."""
    try:
        data = revision["data"]
        plan = Plan.model_validate(data["plan"])
        version = StoredVersion(data["key"], data["child"], plan, data["uri"], data["digest"], int(data["generation"]))
    except (KeyError, TypeError, ValueError, ValidationError):
        return None
    return version if _is_whole(version) else None


def _is_whole(version: StoredVersion) -> bool:
    child = version.child
    try:
        return bool(version.pods_hash and child["apiVersion"] and child["labels"] is not None)
    except (KeyError, TypeError, AttributeError):
        return False
