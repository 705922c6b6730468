"""Builds what serves a new version beside the old one: a Deployment or LeaderWorkerSet of its own, and its Service.

Its pods have a step of their own in their labels, so that no selector of what serves already finds them.
"""

from typing import Any

from ftm_operator.api.spec.serving_children import ServingService
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.resources.metadata import COMPONENT, NAME, STEP, Manifest, metadata, with_spec_hash
from ftm_operator.resources.serving.engine import ReplicaCount
from ftm_operator.resources.serving.kept_template import with_memory
from ftm_operator.resources.serving.leader_worker_set import KIND as LEADER_WORKER_SET
from ftm_operator.resources.serving.leader_worker_set import group_name
from ftm_operator.resources.serving.pod_templates import answering_template
from ftm_operator.resources.serving.serving_labels import CANARY
from ftm_operator.resources.versions.stored_version import StoredVersion, rendered, with_surge

DEPLOYMENT = "Deployment"


def canary_name(model: str) -> str:
    """Returns the name of a model's canary and of its Service."""
    return f"{model}-canary"


def canary_names(model: str) -> tuple[tuple[str, str], ...]:
    """Returns the kinds that a canary may have, with its name in each of them."""
    return (DEPLOYMENT, canary_name(model)), (LEADER_WORKER_SET, group_name(canary_name(model)))


def canary_child(model: FineTunedModel, version: StoredVersion, replicas: int) -> Manifest:
    """Returns the Deployment or LeaderWorkerSet of a canary, which never needs room for more than its replicas."""
    one_by_one = with_surge(version, surge=False)
    child = rendered(model, one_by_one, dict(canary_names(model.metadata.name))[version.kind])
    spec = {**child["spec"], "replicas": replicas}
    if version.kind == LEADER_WORKER_SET:
        groups = dict(spec["leaderWorkerTemplate"])
        for name in ("leaderTemplate", "workerTemplate"):
            groups[name] = _labelled(groups[name])
        spec |= {"leaderWorkerTemplate": groups}
    else:
        selector = {STEP: CANARY, NAME: model.metadata.name}
        spec |= {"template": _labelled(spec["template"]), "selector": {"matchLabels": selector}}
    labelled = {**child["metadata"], "labels": {**child["metadata"]["labels"], STEP: CANARY}}
    return with_memory({**child, "metadata": labelled, "spec": spec}, version.key, ReplicaCount(replicas))


def canary_service(model: FineTunedModel, version: StoredVersion) -> Manifest:
    """Returns the Service of a canary's pods, at the port of the model's own."""
    asked, name = model.spec.serving.service or ServingService(), model.metadata.name
    answering = answering_template(version.child)["metadata"]["labels"]
    selector = {COMPONENT: answering[COMPONENT], STEP: CANARY, NAME: name}
    return with_spec_hash(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(model, canary_name(name), {**answering, STEP: CANARY}),
            "spec": {
                "type": "ClusterIP",
                "selector": selector,
                "ports": [{"name": "http", "port": asked.port, "targetPort": "http", "protocol": "TCP"}],
            },
        }
    )


def _labelled(template: dict[str, Any]) -> Manifest:
    labels = {**template["metadata"]["labels"], STEP: CANARY}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}
