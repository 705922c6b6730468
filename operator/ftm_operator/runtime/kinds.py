"""Names the kinds of objects that the operator reads and writes, and the API versions in which clusters serve them."""

from ftm_operator.api import fine_tuned_adapter
from ftm_operator.api.v1alpha1 import API_VERSION, KIND, PLURAL
from ftm_operator.resources.gateway import http_route, inference_model_rewrite, inference_pool
from ftm_operator.resources.metadata import MANAGED_BY, MANAGER
from ftm_operator.resources.scaling import horizontal_pod_autoscaler, scaled_object
from ftm_operator.resources.serving import leader_worker_set
from ftm_operator.resources.versions import controller_revision

PLURALS = {
    KIND: (API_VERSION, PLURAL),
    fine_tuned_adapter.KIND: (API_VERSION, fine_tuned_adapter.PLURAL),
    "Job": ("batch/v1", "jobs"),
    "Deployment": ("apps/v1", "deployments"),
    controller_revision.KIND: (controller_revision.API_VERSION, controller_revision.PLURAL),
    "Service": ("v1", "services"),
    "Pod": ("v1", "pods"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "Event": ("v1", "events"),
    "ConfigMap": ("v1", "configmaps"),
    "Lease": ("coordination.k8s.io/v1", "leases"),
    "Node": ("v1", "nodes"),
    "ResourceClaimTemplate": ("resource.k8s.io/v1", "resourceclaimtemplates"),
    "ResourceSlice": ("resource.k8s.io/v1", "resourceslices"),
    **{
        module.KIND: (module.API_VERSION, module.PLURAL)
        for module in (
            leader_worker_set,
            horizontal_pod_autoscaler,
            scaled_object,
            http_route,
            inference_pool,
            inference_model_rewrite,
        )
    },
}
"""API version and plural name of each kind that is read or written."""
VERSIONS = {inference_model_rewrite.KIND: inference_model_rewrite.API_VERSIONS}
"""The API versions of kinds that clusters serve in several, the one of PLURALS first."""
_OPTIONAL_CHILDREN = (
    leader_worker_set.KIND,
    scaled_object.KIND,
    http_route.KIND,
    inference_pool.KIND,
    inference_model_rewrite.KIND,
)
OPTIONAL = (*_OPTIONAL_CHILDREN, fine_tuned_adapter.KIND)
"""Kinds that a cluster may lack; that of adapters if its CRDs are of an older version."""
CHILDREN = (
    "Job",
    "Deployment",
    controller_revision.KIND,
    "Service",
    "PodDisruptionBudget",
    horizontal_pod_autoscaler.KIND,
    "ConfigMap",
    "Pod",
    *_OPTIONAL_CHILDREN,
)
CHILD_SELECTOR = f"{MANAGED_BY}={MANAGER}"


def versions_of(kind: str) -> tuple[str, ...]:
    """Returns the API versions in which a cluster may serve a kind."""
    return VERSIONS.get(kind, (PLURALS[kind][0],))
