"""Holds a version of what serves, apart from what a pass decides anew: its number of replicas and its owner."""

from dataclasses import dataclass, replace

from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.metadata import Manifest, metadata
from ftm_operator.resources.serving.deployment import RECREATE, SURGE
from ftm_operator.resources.serving.engine import ReplicaCount, ServedModel
from ftm_operator.resources.serving.kept_template import inputs_hash, with_memory
from ftm_operator.resources.serving.leader_worker_set import KIND as LEADER_WORKER_SET
from ftm_operator.resources.serving.leader_worker_set import RECREATE as RECREATE_GROUPS
from ftm_operator.resources.serving.leader_worker_set import SURGE as SURGE_GROUPS
from ftm_operator.resources.serving.leader_worker_set import group_name
from ftm_operator.resources.serving.pod_templates import answering_template, template_hash
from ftm_operator.resources.serving.serving_labels import deployment_selector


@dataclass(frozen=True)
class StoredVersion:
    """A version of what serves: the child with its pods, and the plan and the weights that it was made from."""

    key: str
    """A hash of what its pods were made from, without anything of the installation."""
    child: Manifest
    """API version, kind, labels and spec of the Deployment or LeaderWorkerSet, without a number of replicas."""
    plan: Plan
    uri: str
    digest: str
    generation: int
    """The generation of the spec that it was made from."""

    @property
    def kind(self) -> str:
        """Returns the kind of the child."""
        return str(self.child["kind"])

    @property
    def pods_hash(self) -> str | None:
        """Returns the hash of what its pods are made from, with all of the installation."""
        return template_hash(answering_template(self.child))


def version_of(made: Manifest, served: ServedModel) -> StoredVersion:
    """Returns the version of a child that was built of a served model."""
    weights = served.weights
    return StoredVersion(
        inputs_hash(served),
        {
            "apiVersion": made["apiVersion"],
            "kind": made["kind"],
            "labels": made["metadata"]["labels"],
            "spec": {name: value for name, value in made["spec"].items() if name != "replicas"},
        },
        served.plan,
        weights.source.uri,
        weights.digest,
        served.model.metadata.generation,
    )


def stable_child(model: FineTunedModel, version: StoredVersion, count: ReplicaCount, live: Manifest | None) -> Manifest:
    """Returns the child of a version with so many replicas. `live` is the one of its kind that it replaces."""
    name = model.metadata.name
    child = rendered(model, version, group_name(name) if version.kind == LEADER_WORKER_SET else name)
    spec = {**child["spec"], **({} if count.number is None else {"replicas": count.number})}
    if version.kind != LEADER_WORKER_SET:
        spec["selector"] = {"matchLabels": deployment_selector(model, live)}
    return with_memory({**child, "spec": spec}, version.key, count)


def rendered(model: FineTunedModel, version: StoredVersion, name: str) -> Manifest:
    """Returns the child of a version as the model's own, under a name."""
    stored = version.child
    return {
        "apiVersion": stored["apiVersion"],
        "kind": stored["kind"],
        "metadata": metadata(model, name, dict(stored["labels"])),
        "spec": dict(stored["spec"]),
    }


def with_surge(version: StoredVersion, *, surge: bool) -> StoredVersion:
    """Returns the version with another way to replace pods."""
    field, way = "strategy", SURGE if surge else RECREATE
    if version.kind == LEADER_WORKER_SET:
        groups = SURGE_GROUPS if surge else RECREATE_GROUPS
        field, way = "rolloutStrategy", {"type": "RollingUpdate", "rollingUpdateConfiguration": groups}
    spec = {**version.child["spec"], field: way}
    return replace(version, child={**version.child, "spec": spec})
