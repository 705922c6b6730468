"""Holds the settings of the Jobs that build artifacts."""

from typing import Annotated, ClassVar

from pydantic import Field

from ftm_operator.api.schema import Resource, Rule
from ftm_operator.api.spec.kubernetes_fields import ObjectName, ResourceRequirements
from ftm_operator.api.spec.pod_fields import PodFields
from ftm_operator.api.spec.pod_names import SERVING_CONTAINERS
from ftm_operator.api.spec.pod_template import elsewhere


class StepSettings(Resource):
    """The settings of one step's Jobs."""

    resources: ResourceRequirements | None = None
    """CPU and memory of this step's container; a resource that is absent here is as in `spec.jobs.resources`."""


class StepsSettings(Resource):
    """The settings of single steps, by their names."""

    inspect: StepSettings | None = None
    """The step that reads configs and headers."""
    merge: StepSettings | None = None
    """The step that folds the adapters into the base."""
    quantize: StepSettings | None = None
    """The step that makes AWQ or GGUF."""
    verify: StepSettings | None = None
    """The step that measures what was built."""
    publish: StepSettings | None = None
    """The step that pushes what is served to a registry."""


class Scratch(Resource):
    """A volume of its own for each Pod that works on a disk, in place of the node's; it goes with the Pod."""

    storage_class_name: ObjectName | None = None
    """The StorageClass of the volume; absent: the cluster's default."""


class Jobs(PodFields):
    """The Jobs that build artifacts."""

    rules: ClassVar[tuple[Rule, ...]] = (
        elsewhere(SERVING_CONTAINERS, "podTemplate has a container of serving; write it in spec.serving.podTemplate"),
    )
    active_deadline_seconds: Annotated[int, Field(strict=True, ge=60, le=31_536_000)] | None = None
    """The longest time that one Job may take with its retries, in seconds; absent: no limit."""
    resources: ResourceRequirements | None = None
    """CPU and memory of a step's container. A resource that is in neither requests nor limits is worked out from the
    model's size, as all of them are if this is absent."""
    steps: StepsSettings | None = None
    """Settings of single steps, which win over those of all."""
    scratch: Scratch | None = None
    """A volume for the steps that write to /tmp, as large as they need; absent: the node's own disk. Their Jobs are
    deleted once their result is in status, since the volume lives as long as they do."""
