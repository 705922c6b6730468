"""Holds fields that are written as in Kubernetes' own resources: names, variables, tolerations, resource amounts."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftm_operator.api.quantities import quantity
from ftm_operator.api.schema import (
    ATOMIC_LIST,
    ATOMIC_MAP,
    NamingRule,
    Quantity,
    Resource,
    Rule,
    keys_match,
    matches,
)

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
_QUALIFIED = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
LABEL_KEY = rf"({DNS_SUBDOMAIN}/)?{_QUALIFIED}"
_KEY_ADVICE = "write name or domain/name of letters, digits, '-', '_' and '.', as in nvidia.com/gpu.product"
LabelKeys = keys_match(LABEL_KEY, f"{{value}} cannot be a label's key; {_KEY_ADVICE}")
_ANY_CASE = DNS_SUBDOMAIN.replace("a-z", "A-Za-z")
AnnotationKeys = keys_match(rf"({_ANY_CASE}/)?{_QUALIFIED}", f"{{value}} cannot be an annotation's key; {_KEY_ADVICE}")
TaintKey = Annotated[
    str,
    Field(max_length=317),
    matches(rf"({LABEL_KEY})?", f"{{value}} cannot be a taint's key; {_KEY_ADVICE}"),
]
LabelValue = Annotated[
    str,
    Field(max_length=63),
    matches(
        rf"({_QUALIFIED})?",
        "{value} cannot be a label's value; write letters, digits, '-', '_' and '.', without spaces, beginning and "
        "ending with a letter or digit",
    ),
]
RESOURCE_NAME = rf"cpu|memory|ephemeral-storage|hugepages-[A-Za-z0-9]+|{DNS_SUBDOMAIN}/{_QUALIFIED}"


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

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "a toleration without a key is for every taint; write key, or operator: Exists",
            "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
            lambda toleration: bool(toleration.key) or toleration.operator == "Exists",
        ),
        Rule(
            "operator Exists compares no value; remove value, or write operator: Equal",
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            lambda toleration: toleration.operator != "Exists" or not toleration.value,
        ),
        Rule(
            "tolerationSeconds is for taints that evict; write effect: NoExecute, or remove tolerationSeconds",
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            lambda toleration: toleration.toleration_seconds is None or toleration.effect == "NoExecute",
        ),
    )
    key: TaintKey | None = None
    """The taint's key; absent with operator Exists: every taint."""
    operator: Literal["Equal", "Exists"] | None = None
    """The comparison with the taint's value; Equal if absent."""
    value: LabelValue | None = None
    """The taint's value, for operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; absent: every effect."""
    toleration_seconds: Annotated[int, Field(strict=True)] | None = None
    """Seconds for which a NoExecute taint is tolerated; absent: for ever."""


Amounts = Annotated[
    dict[str, Quantity],
    Field(max_length=64),
    keys_match(
        RESOURCE_NAME,
        "{value} is not a resource of a container; write cpu, memory, ephemeral-storage or domain/name, as in "
        "nvidia.com/gpu",
    ),
]


_REQUEST_ADVICE = "lower the request or raise the limit"


def _request_above_limit(resources: "ResourceRequirements") -> str | None:
    limits = resources.limits
    for name, request in resources.requests.items():
        if name in limits and quantity(request) > quantity(limits[name]):
            return f"requests.{name} {request} is more than limits.{name} {limits[name]}; {_REQUEST_ADVICE}"
    return None


_ABOVE = (
    "name in self.limits && isQuantity(string(self.requests[name])) && isQuantity(string(self.limits[name])) && "
    "quantity(string(self.requests[name])).isGreaterThan(quantity(string(self.limits[name])))"
)
_FIRST_ABOVE = f"self.requests.filter(name, {_ABOVE})[0]"


class ResourceRequirements(Resource):
    """CPU and memory of a container, as in a Pod's own spec."""

    rules: ClassVar[tuple[Rule, ...]] = (
        NamingRule(
            f"a request is more than its limit; {_REQUEST_ADVICE}",
            f"!has(self.requests) || !has(self.limits) || !self.requests.exists(name, {_ABOVE})",
            None,
            f"[{_FIRST_ABOVE}].map(name, 'requests.' + name + ' ' + string(self.requests[name]) + ' is more than "
            f"limits.' + name + ' ' + string(self.limits[name]) + '; {_REQUEST_ADVICE}')[0]",
            _request_above_limit,
        ),
    )
    requests: Amounts = Field(default_factory=dict)
    """Amounts that are reserved for the container."""
    limits: Amounts = Field(default_factory=dict)
    """Amounts that the container may not exceed."""


NodeSelector = Annotated[dict[str, LabelValue], Field(max_length=64), LabelKeys, ATOMIC_MAP]
Tolerations = Annotated[tuple[Toleration, ...], Field(max_length=64), ATOMIC_LIST]
