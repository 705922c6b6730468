"""Makes what leads from the platform's Gateway to a model, and removes what is no longer asked for. Pure."""

from collections.abc import Mapping

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.spec.gateway import Gateway
from ftm_operator.api.texts import one_line
from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Context
from ftm_operator.reconcile.serving_children.around import Around, applied, deleted
from ftm_operator.resources.gateway import http_route, inference_pool
from ftm_operator.resources.metadata import Manifest

INSTALL = {
    http_route.KIND: "install the Gateway API (its CRDs and a gateway), or remove spec.serving.gateway",
    inference_pool.KIND: "install the Inference Extension (its CRDs and an endpoint picker), or remove "
    "spec.serving.gateway.inferencePool",
}


def routing(context: Context, plan: Plan, selector: Mapping[str, str], canary_weight: int) -> Around:
    """Returns the route that the spec asks for, and its pool. `selector` finds the pods that answer.

    `canary_weight` is the percentage of requests that go to a canary.
    """
    asked, observed = context.model.spec.serving.gateway, context.observed
    if asked is None:
        return Around(deleted(context, observed.http_route, observed.inference_pool))
    route, picker = http_route.http_route(context.model, plan, asked, canary_weight), asked.inference_pool
    pool = inference_pool.inference_pool(context.model, plan, picker.endpoint_picker_ref, selector) if picker else None
    if missing := next((each for each in (route, pool) if each and each["kind"] not in observed.served_apis), None):
        return Around(hold=_not_served(missing))
    pooled = applied(context, pool, observed.inference_pool) if pool else ()
    surplus = () if pool else deleted(context, observed.inference_pool)
    routed = applied(context, route, observed.http_route)
    return Around((*pooled, *routed, *surplus), _refusal(observed.http_route, asked) if not routed else "")


def follows(context: Context, plan: Plan, canary_weight: int) -> bool:
    """Tells whether a gateway has taken up the route that sends this percentage of requests to a canary."""
    asked, live = context.model.spec.serving.gateway, context.observed.http_route
    if asked is None or live is None:
        return False
    if applied(context, http_route.http_route(context.model, plan, asked, canary_weight), live):
        return False
    generation = live["metadata"].get("generation", 0)
    return any(_has_taken(parent, generation) for parent in (live.get("status") or {}).get("parents") or [])


def no_route(context: Context) -> Hold | None:
    """Returns why no requests can be divided between versions, if they cannot."""
    if http_route.KIND in context.observed.served_apis:
        return None
    message = (
        f"spec.serving.strategy Canary takes {http_route.KIND} ({http_route.API_VERSION}), which the cluster does not "
        "serve: install the Gateway API (its CRDs and a gateway), or set spec.serving.strategy to Auto"
    )
    return Hold("Failed", OperatorReason.NO_GATEWAY, message, stalled=True)


def _has_taken(parent: Manifest, generation: int) -> bool:
    conditions = {each.get("type"): each for each in parent.get("conditions") or []}
    accepted, resolved = conditions.get("Accepted", {}), conditions.get("ResolvedRefs", {})
    is_seen = int(accepted.get("observedGeneration") or 0) >= generation
    return accepted.get("status") == "True" and resolved.get("status") != "False" and is_seen


def _not_served(child: Manifest) -> Hold:
    kind, api_version = child["kind"], child["apiVersion"]
    message = f"spec.serving.gateway takes {kind} ({api_version}), which the cluster does not serve: {INSTALL[kind]}"
    return Hold("Failed", OperatorReason.NO_GATEWAY, message, stalled=True)


def _refusal(route: Manifest | None, asked: Gateway) -> str:
    """Returns what the gateway says of why it does not take the route as it is."""
    parents = ((route or {}).get("status") or {}).get("parents") or []
    if not parents:
        return f"no gateway has taken up HTTPRoute {route['metadata']['name']} yet" if route else ""
    for condition in (each for parent in parents for each in parent.get("conditions") or []):
        if condition.get("type") in ("Accepted", "ResolvedRefs") and condition.get("status") == "False":
            said = one_line(condition.get("message") or condition.get("reason"), 500)
            return f"Gateway {asked.name} does not take HTTPRoute {(route or {})['metadata']['name']}: {said}"
    return ""
