"""Holds `podTemplate`: a part of a Pod's template that is merged over what the operator builds.

Only what the operator must keep as it is, is declared here; everything else is taken as it is written.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar

from pydantic import Field

from ftm_operator.api.schema import (
    ATOMIC_LIST,
    MapList,
    OpenResource,
    Resource,
    Rule,
    full_match,
    full_match_cel,
    matches,
)
from ftm_operator.api.spec.kubernetes_fields import DNS_LABEL
from ftm_operator.api.spec.pod_names import (
    ABSOLUTE_PATH,
    ENGINE_PORT,
    GPU_CLAIM,
    INIT_CONTAINERS,
    KEPT_VOLUMES,
    MAIN_CONTAINERS,
    MODEL_VOLUME,
    OWN_CONTAINERS,
    OWN_PATHS,
    PodAnnotations,
    PodLabels,
    not_matching,
)

DIRECTIVE = "$patch"
"""The key by which a map says that it replaces what is there, or that it goes."""
_is_own_path = full_match(OWN_PATHS)
_OWN = ", ".join(f"'{name}'" for name in OWN_CONTAINERS)

Name = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matches(DNS_LABEL, "{value} cannot be a name in a Pod; write lower-case letters, digits and '-'"),
]


def _of_own(message: str, cel: str, holds: Callable[[Any], bool]) -> Rule:
    """Returns a rule that counts for the containers that the operator builds."""
    return Rule(message, f"!(self.name in [{_OWN}]) || ({cel})", lambda it: it.name not in OWN_CONTAINERS or holds(it))


def _none_in(containers: str, names: tuple[str, ...]) -> str:
    """Returns in CEL that none of the containers, if there are any, has one of the names."""
    quoted = ", ".join(f"'{name}'" for name in names)
    return f"(!has({containers}) || !{containers}.exists(it, it.name in [{quoted}]))"


def _named(containers: Iterable[Any]) -> set[str]:
    return {container.name for container in containers}


class TemplatePart(OpenResource):
    """A part of a Pod's template, merged field by field."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"{DIRECTIVE} stands in maps of Kubernetes' own alone, as in securityContext; leave it out here",
            None,
            lambda part: DIRECTIVE not in part.model_extra,
        ),
    )


class TemplateMount(TemplatePart):
    """A mount of a volume, merged by its path."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *TemplatePart.rules,
        Rule(
            f"what serves is proved before it starts; mount {MODEL_VOLUME} with readOnly: true",
            f"!has(self.name) || self.name != '{MODEL_VOLUME}' || (has(self.readOnly) && self.readOnly)",
            lambda mount: mount.name != MODEL_VOLUME or mount.read_only is True,
        ),
    )
    mount_path: Annotated[str, Field(min_length=1, max_length=1024), ABSOLUTE_PATH]
    """The path in the container."""
    name: Name | None = None
    """The volume's name."""
    read_only: Annotated[bool, Field(strict=True)] | None = None
    """The container cannot write to it."""


class TemplatePort(TemplatePart):
    """A port of a container, merged by its number."""

    container_port: Annotated[
        int,
        Field(strict=True, ge=1, le=65535),
        Rule(
            "this port is the engine's; choose another",
            f"self != {ENGINE_PORT}",
            lambda port: port != ENGINE_PORT,
        ),
    ]
    """The port."""


class NamedPart(TemplatePart):
    """A part that is merged by its name."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """The name."""


class TemplateContainer(TemplatePart):
    """A container of the operator's, merged by its name, or one that is added."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *TemplatePart.rules,
        _of_own(
            "the operator writes this container's command line; set spec.serving.extraArgs for an engine's",
            "!has(self.command) && !has(self.args)",
            lambda container: container.command is None and container.args is None,
        ),
        _of_own(
            "this container's image is that of the installation; set spec.serving.image for an engine's, or the "
            "chart's values",
            "!has(self.image)",
            lambda container: container.image is None,
        ),
        _of_own(
            "this container's resources have fields of their own; set resources in spec.serving, spec.serving.fetch or "
            "spec.jobs",
            "!has(self.resources)",
            lambda container: container.resources is None,
        ),
        _of_own(
            "the operator reads how this container ends; leave restartPolicy, terminationMessagePath and "
            "terminationMessagePolicy out",
            "!has(self.restartPolicy) && !has(self.terminationMessagePath) && !has(self.terminationMessagePolicy)",
            lambda container: (
                container.restart_policy is None
                and container.termination_message_path is None
                and container.termination_message_policy is None
            ),
        ),
        _of_own(
            "the operator mounts a volume of its own at one of these paths or above it; choose another path",
            "!has(self.volumeMounts) || "
            f"!self.volumeMounts.exists(mount, {full_match_cel(OWN_PATHS, 'mount.mountPath')})",
            lambda container: not any(_is_own_path(mount.mount_path) for mount in container.volume_mounts),
        ),
    )
    name: Name
    """The container's name: fetch, vllm and llama-server serve; inspect, merge, quantize and verify are Jobs'. One that
    a Pod does not run is left out of it."""
    image: Annotated[str, Field(max_length=1024)] | None = None
    """The image of a container that is added."""
    command: Annotated[tuple[str, ...], Field(max_length=256), ATOMIC_LIST] | None = None
    """The command of a container that is added."""
    args: Annotated[tuple[str, ...], Field(max_length=256), ATOMIC_LIST] | None = None
    """The arguments of a container that is added."""
    resources: dict[str, Any] | None = None
    """The resources of a container that is added."""
    restart_policy: Annotated[str, Field(max_length=32)] | None = None
    """Always makes an added init container a sidecar, which runs beside the others."""
    termination_message_path: Annotated[str, Field(max_length=1024)] | None = None
    """The file of the last words of a container that is added."""
    termination_message_policy: Annotated[str, Field(max_length=64)] | None = None
    """The source of the last words of a container that is added."""
    env: Annotated[tuple[NamedPart, ...], Field(max_length=64), MapList("name")] = ()
    """Environment variables; one of the same name takes the place of the operator's."""
    volume_mounts: Annotated[tuple[TemplateMount, ...], Field(max_length=32), MapList("mount_path")] = ()
    """Mounts of volumes."""
    ports: Annotated[tuple[TemplatePort, ...], Field(max_length=16), MapList("container_port")] = ()
    """Ports."""


class TemplateVolume(TemplatePart):
    """A volume: one of the operator's, /tmp or shm, in another place, or one that is added."""

    name: Annotated[
        Name, not_matching(KEPT_VOLUMES, "{value} is a volume of the operator's own; give yours another name")
    ]
    """The volume's name."""


class TemplateClaim(TemplatePart):
    """A claim of devices."""

    name: Annotated[Name, not_matching(GPU_CLAIM, "{value} is the operator's claim; give yours another name")]
    """The claim's name."""


class TemplateSpec(TemplatePart):
    """A part of a Pod's spec."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *TemplatePart.rules,
        Rule(
            "the operator needs the restartPolicy of its Pods as it is; leave it out",
            "!has(self.restartPolicy)",
            lambda spec: spec.restart_policy is None,
        ),
        Rule(
            "fetch is an init container, and engines and steps are containers; move it to the other list",
            f"{_none_in('self.containers', INIT_CONTAINERS)} && {_none_in('self.initContainers', MAIN_CONTAINERS)}",
            lambda spec: (
                _named(spec.containers).isdisjoint(INIT_CONTAINERS)
                and _named(spec.init_containers).isdisjoint(MAIN_CONTAINERS)
            ),
        ),
    )
    containers: Annotated[tuple[TemplateContainer, ...], Field(max_length=16), MapList("name")] = ()
    """Containers, merged by their names."""
    init_containers: Annotated[tuple[TemplateContainer, ...], Field(max_length=16), MapList("name")] = ()
    """Init containers, merged by their names; added ones run after the operator's."""
    volumes: Annotated[tuple[TemplateVolume, ...], Field(max_length=32), MapList("name")] = ()
    """Volumes; one of the same name takes the place of the operator's."""
    resource_claims: Annotated[tuple[TemplateClaim, ...], Field(max_length=16), MapList("name")] = ()
    """Claims of devices."""
    restart_policy: Annotated[str, Field(max_length=32)] | None = None
    """Not to be set."""


class TemplateMetadata(Resource):
    """Labels and annotations of a Pod."""

    labels: PodLabels = Field(default_factory=dict)
    """Labels, beside the operator's own."""
    annotations: PodAnnotations = Field(default_factory=dict)
    """Annotations, beside the operator's own."""


class PodTemplate(Resource):
    """A part of a Pod's template."""

    metadata: TemplateMetadata | None = None
    """Labels and annotations of the Pods."""
    spec: TemplateSpec | None = None
    """A part of the Pods' spec, with whatever else Kubernetes has for it."""


def elsewhere(names: tuple[str, ...], message: str) -> Rule:
    """Returns the rule that a template, if there is one, has none of these containers of the operator's."""
    spec = "self.podTemplate.spec"
    return Rule(
        message,
        f"!has(self.podTemplate) || !has({spec}) || "
        f"({_none_in(f'{spec}.containers', names)} && {_none_in(f'{spec}.initContainers', names)})",
        lambda fields: _named(_containers(fields.pod_template)).isdisjoint(names),
    )


def _containers(template: PodTemplate | None) -> tuple[TemplateContainer, ...]:
    spec = template.spec if template else None
    return (*spec.containers, *spec.init_containers) if spec else ()
