"""Holds the choice of what scales a model, and builds it."""

from dataclasses import dataclass

from ftm_operator.api.spec.autoscaling import Autoscaling
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.scaling import horizontal_pod_autoscaler, scaled_object
from ftm_operator.resources.scaling.load import ReplicaLoad

SCALERS = (scaled_object.KIND, horizontal_pod_autoscaler.KIND)


@dataclass(frozen=True)
class Scaler:
    """A kind of scaler, and the load that it follows."""

    kind: str
    """One of SCALERS."""
    followed: ReplicaLoad
    prometheus: str | None = None
    """The address of the Prometheus that a ScaledObject asks."""

    def manifest(self, model: FineTunedModel, plan: Plan, asked: Autoscaling, start_seconds: int) -> Manifest:
        """Returns the scaler. `start_seconds` is how long a replica takes until it answers."""
        if self.kind == scaled_object.KIND:
            return scaled_object.scaled_object(model, plan, asked, self.followed, self.prometheus, start_seconds)
        return horizontal_pod_autoscaler.horizontal_pod_autoscaler(model, plan, asked, self.followed)
