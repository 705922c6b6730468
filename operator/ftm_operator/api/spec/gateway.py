"""Holds the settings by which a Gateway of the platform leads to the model."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftm_operator.api.schema import ATOMIC_LIST, Resource, Rule, matches
from ftm_operator.api.spec.kubernetes_fields import DNS_LABEL, DNS_SUBDOMAIN, ObjectName

Hostname = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matches(
        rf"(\*\.)?{DNS_SUBDOMAIN}",
        "{value} is not a host's name; write one without a port, as in models.example.com or *.example.com",
    ),
]


class EndpointPicker(Resource):
    """The Service that picks a Pod for each request of an InferencePool."""

    name: ObjectName
    """The Service's name, in this namespace."""
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = 9002
    """The port at which it speaks Envoy's external processing protocol."""
    failure_mode: Literal["FailOpen", "FailClose"] = "FailClose"
    """The gateway's way while the picker does not answer. FailClose: it refuses requests. FailOpen: any Pod gets
    them."""


class ModelPool(Resource):
    """An InferencePool of the serving Pods, which the route leads to."""

    endpoint_picker_ref: EndpointPicker
    """The endpoint picker, which the platform runs."""


class Gateway(Resource):
    """The Gateway that leads to the model from outside."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "all requests of the Gateway would come to this model; write hostnames or path",
            "(has(self.hostnames) && size(self.hostnames) > 0) || has(self.path)",
            lambda gateway: bool(gateway.hostnames) or gateway.path is not None,
        ),
    )
    name: ObjectName
    """The Gateway's name."""
    namespace: (
        Annotated[
            str,
            Field(min_length=1, max_length=63),
            matches(DNS_LABEL, "{value} cannot be a namespace; write lower-case letters, digits and '-'"),
        ]
        | None
    ) = None
    """The Gateway's namespace; absent: this one. It must let routes of this namespace in."""
    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=16), ATOMIC_LIST] = ()
    """The hosts that requests ask for; empty: those of the Gateway."""
    path: (
        Annotated[
            str,
            Field(min_length=2, max_length=256),
            matches(
                r"(/[A-Za-z0-9._~-]+)+",
                "{value} cannot be the beginning of a path; write one that ends without '/', as in /support-bot",
            ),
        ]
        | None
    ) = None
    """The beginning of the paths that lead here, which the engine does not see: /support-bot for
    /support-bot/v1/chat/completions. Absent: all paths."""
    inference_pool: ModelPool | None = None
    """An InferencePool in the place of the Service, where an endpoint picker chooses the Pod; absent: the Service."""
