"""Makes the children of a canary, and reads how its pods are. Pure."""

from datetime import datetime

from ftm_operator.api.spec.canary import Canary
from ftm_operator.observe.canary.pods import CanaryPods, canary_pods, of_canary
from ftm_operator.reconcile.passes import Apply, Context, Delete
from ftm_operator.reconcile.serving_children.around import applied, deleted
from ftm_operator.reconcile.serving_children.served_verification import failed_verdict
from ftm_operator.resources.metadata import NAME, Manifest
from ftm_operator.resources.resource_claim import claims_devices
from ftm_operator.resources.resource_claim import template as claim_template
from ftm_operator.resources.versions.canary import canary_child, canary_service
from ftm_operator.resources.versions.stored_version import StoredVersion


def canary_state(context: Context, version: StoredVersion, shared_since: datetime | None) -> CanaryPods:
    """Returns how the canary's pods are. Since `shared_since`, if that is, they all answer requests."""
    wanted = _wanted(context, version)
    live = _live(context, version)
    if live is None or applied(context, wanted, live):
        return CanaryPods(False, f"its {wanted['kind']} is being applied")
    pods = of_canary(context.observed.pods(NAME, context.model.metadata.name))
    if verdict := failed_verdict(context, pods):
        return CanaryPods(False, verdict, verdict)
    return canary_pods(live, pods, shared_since)


def canary_actions(context: Context, version: StoredVersion) -> tuple[Apply | Delete, ...]:
    """Returns what the canary of a version needs, and the deletion of one of another kind."""
    model, live = context.model, _live(context, version)
    changed = applied(context, _wanted(context, version), live)
    claims = (Apply(claim_template(model, version.plan), "the canary's pods claim their GPUs by it"),)
    others = (each for each in context.observed.canaries if each["kind"] != version.kind)
    served = applied(context, canary_service(model, version), context.observed.canary_service)
    return (
        *(claims if changed and claims_devices(version.plan) else ()),
        *changed,
        *served,
        *deleted(context, *others),
    )


def _wanted(context: Context, version: StoredVersion) -> Manifest:
    asked = context.model.spec.serving.canary or Canary()
    return canary_child(context.model, version, asked.replicas)


def _live(context: Context, version: StoredVersion) -> Manifest | None:
    return next((each for each in context.observed.canaries if each["kind"] == version.kind), None)
