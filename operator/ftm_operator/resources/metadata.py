"""Builds the labels, names and owner references of every child."""

from typing import Any

from ftm_operator.api.fine_tuned_adapter import KIND as ADAPTER_KIND
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.input_hashes import short_hash

Manifest = dict[str, Any]
Owner = FineTunedModel | FineTunedAdapter
"""A resource whose children the operator makes."""

MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/name"
MANAGER = "ftm-operator"
NAME = "ftm.dev/name"
"""Labels the children of a FineTunedModel with its name."""
ADAPTER = "ftm.dev/adapter"
"""Labels the children of a FineTunedAdapter with its name."""
STEP = "ftm.dev/step"
ARTIFACT = "ftm.dev/artifact"
ATTEMPT = "ftm.dev/attempt"
INSPECTION = "ftm.dev/inspection"
MORE_MEMORY = "ftm.dev/more-memory"
"""Annotates a Job that was given more memory than usual, with the limit."""
JOB_SPEC = "ftm.dev/job-spec"
"""Annotates a Job with a hash of what it runs and how: of two Jobs with the same, the second would end as the first."""
FIRST_ATTEMPT = "ftm.dev/first-attempt"
"""Annotates a Job with the number of the first attempt that had the same hash."""
ARTIFACT_DIGEST = "ftm.dev/artifact-digest"
POD_TEMPLATE = "ftm.dev/pod-template"
"""Annotates a serving pod with a hash of what it was made from."""
SPEC_HASH = "ftm.dev/spec-hash"
WANTED_ADAPTERS = "ftm.dev/wanted-adapters"
"""Annotates a serving pod with a hash of the adapters that it is to hold, so that its kubelet syncs the volume."""


def owner_label(kind: str) -> str:
    """Returns the label that names the owner in the children of a kind of resource."""
    return ADAPTER if kind == ADAPTER_KIND else NAME


def labels(owner: Owner, component: str, step: str) -> dict[str, str]:
    """Returns the labels of a child of a step."""
    return {
        MANAGED_BY: MANAGER,
        COMPONENT: component,
        owner_label(owner.kind): owner.metadata.name,
        STEP: step,
    }


def metadata(owner: Owner, name: str, labels: dict[str, str]) -> Manifest:
    """Returns name, labels and an owner reference, so that Kubernetes deletes the child with its owner."""
    return {
        "name": name,
        "namespace": owner.metadata.namespace,
        "labels": labels,
        "ownerReferences": [
            {
                "apiVersion": owner.api_version,
                "kind": owner.kind,
                "name": owner.metadata.name,
                "uid": owner.metadata.uid,
                "controller": True,
            }
        ],
    }


def with_spec_hash(child: Manifest) -> Manifest:
    """Returns the child annotated with a hash of itself, by which a field that we no longer set is noticed."""
    annotations = {**child["metadata"].get("annotations", {}), SPEC_HASH: short_hash(child, 16)}
    return {**child, "metadata": {**child["metadata"], "annotations": annotations}}


def owned_by(child: Manifest, owner: Owner) -> bool:
    """Tells whether a child is this resource's own."""
    owners = child.get("metadata", {}).get("ownerReferences") or []
    return any(each.get("uid") == owner.metadata.uid for each in owners)


def belongs_to(child: Manifest, owner: Owner) -> bool:
    """Tells whether a child is this resource's own, or an orphan of one of its name, to be adopted."""
    return owned_by(child, owner) or is_orphan(child, owner_label(owner.kind), owner.metadata.name)


def is_orphan(child: Manifest, label: str, name: str) -> bool:
    """Tells whether a deletion with --cascade=orphan left this child of a resource that the label names."""
    labels = child["metadata"].get("labels") or {}
    return (
        labels.get(MANAGED_BY) == MANAGER and labels.get(label) == name and not child["metadata"].get("ownerReferences")
    )
