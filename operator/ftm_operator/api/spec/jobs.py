"""Holds the settings of the Jobs that build artifacts."""

from typing import Annotated

from pydantic import Field

from ftm_operator.api.schema import Resource
from ftm_operator.api.spec.kubernetes_fields import NodeSelector, ObjectName, ResourceRequirements, Tolerations


class Jobs(Resource):
    """The Jobs that build artifacts."""

    service_account_name: ObjectName | None = None
    """The ServiceAccount of the Jobs' Pods, for stores that trust one (workload identity); absent: the namespace's
    default. The Pods are not given its Kubernetes token."""
    active_deadline_seconds: Annotated[int, Field(strict=True, ge=60, le=31_536_000)] | None = None
    """The longest time that one Job may take with its retries, in seconds; absent: no limit."""
    resources: ResourceRequirements | None = None
    """CPU and memory of a step's container; absent: worked out from the model's size."""
    node_selector: NodeSelector = Field(default_factory=dict)
    """Labels that a node must have to run Jobs."""
    tolerations: Tolerations = ()
    """Taints that Jobs tolerate."""
