"""Holds fields that are written as in Kubernetes' own resources: names, variables, tolerations, resource amounts."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftm_operator.api.schema import ATOMIC_LIST, ATOMIC_MAP, Quantity, Resource, Rule, matches

DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS_SUBDOMAIN = rf"{DNS_LABEL}(\.{DNS_LABEL})*"

ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matches(
        DNS_SUBDOMAIN,
        "{value} cannot be an object's name; write lower-case letters, digits, '-' and '.', as in models-s3",
    ),
]
SecretKey = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matches(r"[-._A-Za-z0-9]+", "{value} cannot be a key of a Secret; write letters, digits, '-', '_' and '.'"),
]
LabelKey = Annotated[str, Field(max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]


class SecretKeySelector(Resource):
    """One key of a Secret."""

    name: ObjectName
    """The Secret's name, in this namespace."""
    key: SecretKey
    """The key in the Secret."""


class EnvVarSource(Resource):
    """The source of a variable's value."""

    secret_key_ref: SecretKeySelector
    """A key of a Secret."""


class EnvVar(Resource):
    """An environment variable of a container."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "a variable has exactly one source; write value or valueFrom.secretKeyRef",
            "has(self.value) != has(self.valueFrom)",
            lambda variable: (variable.value is None) != (variable.value_from is None),
        ),
    )
    name: Annotated[
        str,
        Field(min_length=1, max_length=253),
        matches(r"[A-Za-z_][A-Za-z0-9_]*", "{value} cannot be a variable's name; write letters, digits and '_'"),
    ]
    """The variable's name."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """The variable's value."""
    value_from: EnvVarSource | None = None
    """The source of the value, instead of `value`."""


class Toleration(Resource):
    """A taint that Pods accept, as in a Pod's own spec."""

    key: LabelKey | None = None
    """The taint's key; absent with operator Exists: every taint."""
    operator: Literal["Equal", "Exists"] | None = None
    """The comparison with the taint's value; Equal if absent."""
    value: LabelValue | None = None
    """The taint's value, for operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; absent: every effect."""
    toleration_seconds: Annotated[int, Field(strict=True)] | None = None
    """Seconds for which a NoExecute taint is tolerated; absent: for ever."""


class ResourceRequirements(Resource):
    """CPU and memory of a container, as in a Pod's own spec."""

    requests: Annotated[dict[str, Quantity], Field(max_length=64)] = Field(default_factory=dict)
    """Amounts that are reserved for the container."""
    limits: Annotated[dict[str, Quantity], Field(max_length=64)] = Field(default_factory=dict)
    """Amounts that the container may not exceed."""


NodeSelector = Annotated[dict[str, LabelValue], Field(max_length=64), ATOMIC_MAP]
Tolerations = Annotated[tuple[Toleration, ...], Field(max_length=64), ATOMIC_LIST]
