"""Decides who sets the number of replicas: the spec, its autoscaling, or whoever else scales. Pure.

Whoever uses the scale subresource of a child scales it, and is left to it until spec.serving.replicas changes. Any
other change of the number is undone, as of every field.
"""

from ftm_operator.observe.replica_owners import is_only_ours, scaling_manager
from ftm_operator.reconcile.passes import Context, HandOver
from ftm_operator.resources.metadata import Manifest, belongs_to
from ftm_operator.resources.serving.engine import LEFT_REPLICAS, ReplicaCount

AUTOSCALING = "autoscaling"
"""The value of LEFT_REPLICAS while spec.serving.autoscaling is set."""


def chosen_replicas(context: Context, live: Manifest | None, other: Manifest | None) -> ReplicaCount:
    """Returns the number that an apply of the child sets, if it sets one.

    `live` is the child as it is, `other` the one of the other kind that it takes over from.
    """
    serving = context.model.spec.serving
    if serving.autoscaling or _still_scaled(context):
        if live is None:
            fewest = serving.autoscaling.min_replicas if serving.autoscaling else 0
            first = max(1, fewest, replicas_of(other) if other else 0)
            return ReplicaCount(first if first > 1 else None, AUTOSCALING)
        return ReplicaCount(None, AUTOSCALING)
    wanted = serving.replicas
    if live and belongs_to(live, context.model) and _is_left(live, wanted):
        return ReplicaCount(None, str(wanted))
    return ReplicaCount(wanted)


def handed_over(live: Manifest | None, count: ReplicaCount) -> tuple[HandOver, ...]:
    """Returns what must come before an apply that leaves the number out: it would be reset to 1 otherwise."""
    if live is None or count.number is not None or not is_only_ours(live):
        return ()
    metadata = {name: live["metadata"][name] for name in ("name", "namespace")}
    identity = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}
    return (HandOver({**identity, "spec": {"replicas": replicas_of(live)}}),)


def said_of_replicas(context: Context, live: Manifest, count: ReplicaCount) -> str:
    """Returns what to say of a number of replicas that is not the spec's; nothing where it is."""
    serving, present = context.model.spec.serving, replicas_of(live)
    if serving.autoscaling:
        unused = serving.replicas not in (1, present)
        return f"spec.serving.replicas {serving.replicas} is not used while autoscaling is set" if unused else ""
    if count.number is None and count.left_to != AUTOSCALING and present != serving.replicas:
        return (
            f"{scaling_manager(live)} set {present} replicas, which stay until spec.serving.replicas "
            f"is another number than {serving.replicas}"
        )
    return ""


def replicas_of(child: Manifest) -> int:
    """Returns the number of replicas that a child asks for."""
    return int(child["spec"].get("replicas", 1))


def _still_scaled(context: Context) -> bool:
    """Tells whether a scaler of the spec's is still there, or what KEDA made for it: it would scale once more."""
    return bool(context.observed.scalers)


def _is_left(live: Manifest, wanted: int) -> bool:
    if scaling_manager(live) is None:
        return False
    left = (live["metadata"].get("annotations") or {}).get(LEFT_REPLICAS)
    return left == str(wanted) or (left is None and replicas_of(live) != wanted)
