"""Builds the PodDisruptionBudget of a served model, if its spec has one.

It counts pods, which are replicas but for those that span nodes. Of such a group one pod that goes takes the others
with it, so what may be away of groups is counted in single pods.
"""

from math import ceil

from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.metadata import NAME, STEP, Manifest, metadata, with_spec_hash
from ftm_operator.resources.serving.serving_labels import SERVE, serving_labels

KIND = "PodDisruptionBudget"


def disruption_budget(model: FineTunedModel, plan: Plan, replicas: int) -> Manifest | None:
    """Returns the budget over all serving pods of so many replicas; None where the spec asks for none.

    Pods that are not ready may always be evicted: a budget must not keep a broken pod on a node that is drained.
    """
    asked = model.spec.serving.disruption_budget
    if asked is None:
        return None
    written = asked.to_json()
    if plan.nodes:
        ((name, count),) = written.items()
        groups = min(replicas, _number(count, replicas))
        written = {"maxUnavailable": replicas - groups if name == "minAvailable" else groups}
    return with_spec_hash(
        {
            "apiVersion": "policy/v1",
            "kind": KIND,
            "metadata": metadata(model, model.metadata.name, serving_labels(model, plan.engine)),
            "spec": {
                **written,
                "selector": {"matchLabels": {STEP: SERVE, NAME: model.metadata.name}},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        }
    )


def _number(count: int | str, of: int) -> int:
    """Returns a number of replicas, rounded up as Kubernetes rounds percentages."""
    return ceil(of * int(count.rstrip("%")) / 100) if isinstance(count, str) else count
