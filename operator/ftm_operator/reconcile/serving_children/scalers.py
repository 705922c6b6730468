"""Makes what scales a model once its first replica has answered, and removes what does no longer. Pure."""

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.spec.serving_children import Probes
from ftm_operator.api.texts import one_line
from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.observe.canary.pods import of_stable
from ftm_operator.observe.start_time import measured_start
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Context
from ftm_operator.reconcile.serving_children.around import Around, applied, deleted
from ftm_operator.reconcile.serving_children.scaler_choice import choose_scaler
from ftm_operator.resources.metadata import NAME, Manifest, belongs_to
from ftm_operator.resources.scaling.scaler import Scaler


def scaling(context: Context, plan: Plan, live: Manifest, *, rolled_out: bool) -> Around:
    """Returns the scaler that the spec asks for. `live` is the child that is scaled.

    It is made when a replica has answered, so that none is stopped for being idle while the first one loads.
    """
    asked, scalers = context.model.spec.serving.autoscaling, context.observed.scalers
    if asked is None:
        return Around(deleted(context, *scalers), f"{scalers[0]['kind']} is being removed" if scalers else "")
    chosen = choose_scaler(context, plan, asked)
    if isinstance(chosen, str):
        hold = Hold("Failed", OperatorReason.NO_AUTOSCALER, f"spec.serving.autoscaling: {chosen}", stalled=True)
        return Around(hold=hold)
    own = [each for each in scalers if belongs_to(each, context.model)]
    others = [each for each in own if each["kind"] != chosen.kind]
    present = next((each for each in own if each["kind"] == chosen.kind), None)
    if others or not (rolled_out or present):
        return Around(deleted(context, *others))
    wanted = chosen.manifest(context.model, plan, asked, _start_seconds(context, live))
    words = _idle(live, chosen), _trouble(present) if present else ""
    return Around(applied(context, wanted, present), "; ".join(filter(None, words)))


def _start_seconds(context: Context, live: Manifest) -> int:
    """Returns how long a replica takes until it answers: as measured, or as long as it may."""
    pods = of_stable(context.observed.pods(NAME, context.model.metadata.name))
    start = measured_start(live, pods, context.before.start)
    return start.seconds if start else (context.model.spec.serving.probes or Probes()).startup_seconds


def _idle(live: Manifest, chosen: Scaler) -> str:
    if live["spec"].get("replicas") != 0:
        return ""
    return f"{chosen.kind} {live['metadata']['name']} starts a replica when one of its triggers asks for it"


def _trouble(scaler: Manifest) -> str:
    """Returns what a scaler says of why it does not scale."""
    for condition in (scaler.get("status") or {}).get("conditions") or []:
        if condition.get("type") in ("Ready", "ScalingActive", "AbleToScale") and condition.get("status") == "False":
            said = one_line(condition.get("message") or condition.get("reason"), 500)
            return f"{scaler['kind']} {scaler['metadata']['name']} does not scale: {said}"
    return ""
