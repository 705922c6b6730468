"""Holds the settings of the Jobs that build artifacts."""

from typing import Annotated

from pydantic import Field

from ftm_operator.api.spec.kubernetes_fields import ResourceRequirements
from ftm_operator.api.spec.pod_fields import PodFields


class Jobs(PodFields):
    """The Jobs that build artifacts."""

    active_deadline_seconds: Annotated[int, Field(strict=True, ge=60, le=31_536_000)] | None = None
    """The longest time that one Job may take with its retries, in seconds; absent: no limit."""
    resources: ResourceRequirements | None = None
    """CPU and memory of a step's container; absent: worked out from the model's size."""
