"""Holds the fields of Pods that serving and Jobs share.

Large structures of Kubernetes (affinity, volumes) are taken as they are written: the API server checks them when the
child is applied.
"""

from typing import Annotated, Any, ClassVar

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ftm_operator.api.schema import (
    ATOMIC_LIST,
    MapList,
    OpenResource,
    Resource,
    Rule,
    matches,
)
from ftm_operator.api.spec.kubernetes_fields import (
    DNS_LABEL,
    EnvVar,
    NodeSelector,
    ObjectName,
    Tolerations,
)
from ftm_operator.api.spec.pod_names import (
    ABSOLUTE_PATH,
    OWN_PATHS,
    OWN_VOLUMES,
    PodAnnotations,
    PodLabels,
    not_matching,
)
from ftm_operator.api.spec.pod_template import PodTemplate

VolumeName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matches(DNS_LABEL, "{value} cannot be a volume's name; write lower-case letters, digits and '-'"),
    not_matching(OWN_VOLUMES, "{value} is a volume of the operator's own; give yours another name"),
]
MountPath = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    ABSOLUTE_PATH,
    not_matching(OWN_PATHS, "{value} is where the operator mounts a volume of its own; choose another path"),
]


class LocalObjectReference(Resource):
    """An object in this namespace."""

    name: ObjectName
    """The object's name."""


class OptionalReference(LocalObjectReference):
    """An object in this namespace that may be absent."""

    optional: Annotated[bool, Field(strict=True)] | None = None
    """Start the Pod without it where there is no such object."""


class EnvFromSource(Resource):
    """A ConfigMap or Secret whose keys become environment variables."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "variables come from exactly one object; write configMapRef or secretRef",
            "has(self.configMapRef) != has(self.secretRef)",
            lambda source: (source.config_map_ref is None) != (source.secret_ref is None),
        ),
    )
    prefix: Annotated[str, Field(max_length=253)] | None = None
    """Text that is put before each key."""
    config_map_ref: OptionalReference | None = None
    """A ConfigMap in this namespace."""
    secret_ref: OptionalReference | None = None
    """A Secret in this namespace."""


class Volume(OpenResource):
    """A volume as in a Pod's own spec: its name, and its source in the field that Kubernetes has for it."""

    name: VolumeName
    """The volume's name."""


class VolumeMount(OpenResource):
    """A mount of a volume as in a container's own spec, with readOnly, subPath and what else Kubernetes has for it."""

    name: VolumeName
    """The volume's name."""
    mount_path: MountPath
    """The path in the container."""


class PodFields(Resource):
    """The fields of Pods that serving and Jobs share."""

    service_account_name: ObjectName | None = None
    """The ServiceAccount of the Pods, for stores and clouds that trust one (workload identity); absent: the namespace's
    default. The Pods are not given its Kubernetes token."""
    pod_labels: PodLabels = Field(default_factory=dict)
    """Labels of the Pods, beside the operator's own."""
    pod_annotations: PodAnnotations = Field(default_factory=dict)
    """Annotations of the Pods, beside the operator's own."""
    node_selector: NodeSelector = Field(default_factory=dict)
    """Labels that a node must have to run the Pods."""
    tolerations: Tolerations = ()
    """Taints that the Pods tolerate."""
    affinity: dict[str, Any] | None = None
    """The nodes and Pods that the Pods are placed with or apart from, as in a Pod's own spec."""
    topology_spread_constraints: Annotated[tuple[dict[str, Any], ...], Field(max_length=16), ATOMIC_LIST] = ()
    """The spread of the Pods over zones or nodes, as in a Pod's own spec."""
    priority_class_name: ObjectName | None = None
    """The PriorityClass of the Pods; absent: the cluster's default."""
    runtime_class_name: ObjectName | None = None
    """The RuntimeClass that runs the Pods; absent: the node's default."""
    scheduler_name: ObjectName | None = None
    """The scheduler that places the Pods; absent: the cluster's default."""
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], Field(max_length=16), MapList("name")] = ()
    """Secrets that images are pulled with, beside those of the installation."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), MapList("name")] = ()
    """Environment variables of the engine's or the step's container."""
    env_from: Annotated[tuple[EnvFromSource, ...], Field(max_length=16), ATOMIC_LIST] = ()
    """ConfigMaps and Secrets whose keys become environment variables of that container; `env` wins."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=32), MapList("name")] = ()
    """Volumes of the Pods, beside the operator's own."""
    volume_mounts: Annotated[tuple[VolumeMount, ...], Field(max_length=32), MapList("mount_path")] = ()
    """Mounts of `volumes` in the engine's or the step's container."""
    pod_template: PodTemplate | None = None
    """A part of a Pod's template, for what no other field says. It is merged over what the operator builds as a
    strategic merge patch is, by the keys that Kubernetes merges lists by. A map of Kubernetes' own with the key $patch
    takes the place of what is there (replace) or removes it (delete)."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describes a model's own fields before those that it shares."""
        reference = super().__get_pydantic_json_schema__(core, handler)
        schema = handler.resolve_ref_schema(reference)
        shared = {field.alias: schema["properties"].pop(field.alias) for field in PodFields.model_fields.values()}
        schema["properties"] |= shared
        return reference
