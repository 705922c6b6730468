"""Chooses how a new version of what serves takes the place of the old one: beside it, or after it. Pure.

A new pod beside the old one needs GPUs that are free; where there are none, neither would ever end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ftm_operator.api.spec.canary import Canary
from ftm_operator.api.v1alpha1 import Plan, ServingSpec
from ftm_operator.planning.gpus.accelerators import AcceleratorClass


@dataclass(frozen=True)
class Rollout:
    """The way of a rollout, and why."""

    surge: bool
    """A new replica starts before an old one ends; else an old one ends first, one at a time."""
    reason: str
    asked: bool = False
    """The spec says it."""

    @property
    def said(self) -> str:
        order = "a new replica starts before an old one ends" if self.surge else "an old replica ends before a new one"
        return f"{order}: {self.reason}"


def choose_rollout(serving: ServingSpec, plan: Plan, accelerators: Sequence[AcceleratorClass]) -> Rollout:
    """Returns spec.serving.strategy, or what the plan's GPUs allow. GPUs that are not known count as enough."""
    if serving.strategy in ("Surge", "Recreate"):
        return Rollout(serving.strategy == "Surge", "spec.serving.strategy says so", asked=True)
    kind = next((each for each in accelerators if each.name == plan.accelerator_class), None)
    if kind is None or not plan.gpus:
        return Rollout(surge=True, reason="no kind of GPU that is known runs out")
    room = _replicas_that_fit(kind, plan.gpus, plan.nodes or 1)
    beside = (serving.canary or Canary()).replicas if serving.strategy == "Canary" else 0
    enough = room > serving.most_replicas + beside
    wanted = f"{serving.most_replicas} are wanted" + (f" beside {beside} of a canary" if beside else "")
    there = f"{kind.nodes * kind.per_node} x {kind.name} hold {room} replicas, and {wanted}"
    return Rollout(enough, there if enough else f"{there}; spec.serving.strategy Surge waits for more GPUs instead")


def _replicas_that_fit(kind: AcceleratorClass, gpus: int, nodes: int) -> int:
    if nodes > 1:
        return kind.nodes // nodes
    return kind.nodes * (kind.per_node * kind.shared_by // gpus)
