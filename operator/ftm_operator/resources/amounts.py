"""Combines resources that are worked out with those that a spec sets, so that no request is above its limit. Pure."""

from ftm_operator.api.quantities import quantity
from ftm_operator.api.spec.kubernetes_fields import ResourceRequirements
from ftm_operator.resources.metadata import Manifest


def with_asked(worked_out: Manifest, asked: ResourceRequirements | None) -> Manifest:
    """Returns requests and limits in which a resource that the spec names, in either of them, is as the spec says."""
    if asked is None:
        return worked_out
    written = asked.to_json()
    named = {*asked.requests, *asked.limits}
    combined = {
        kind: {name: amount for name, amount in worked_out.get(kind, {}).items() if name not in named} | written[kind]
        for kind in ("requests", "limits")
    }
    return {kind: amounts for kind, amounts in combined.items() if amounts}


def within_limits(requests: Manifest, limits: Manifest) -> Manifest:
    """Returns requests, each lowered to its limit where it is above."""
    return {
        name: limits[name] if name in limits and quantity(limits[name]) < quantity(amount) else amount
        for name, amount in requests.items()
    }
