"""What goes into a pass over one FineTunedModel, and what comes out of it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.feedback.measurements import Measurement, Measurements
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.reconcile.engine_feedback import EngineLog, Heard
from ftm_operator.resources.event import Notice
from ftm_operator.resources.leader_worker_set import KIND as LEADER_WORKER_SET
from ftm_operator.resources.metadata import Manifest, owned_by

Labelled = Callable[[str, str], Sequence[Manifest]]
"""(label, value) -> the children in the resource's namespace that carry it."""


@dataclass(frozen=True)
class Observed:
    resource: Manifest
    jobs: Labelled
    pods: Labelled
    deployment: Manifest | None = None
    leader_worker_set: Manifest | None = None
    service: Manifest | None = None
    accelerators: Sequence[AcceleratorClass] = ()
    """The GPUs that there are."""
    several_nodes: bool = False
    """Whether the cluster has LeaderWorkerSets, so that a replica may span nodes."""
    progress: Mapping[str, str] = field(default_factory=dict)
    """How far running steps are, by the names of their pods."""
    heard: Mapping[EngineLog, Heard] = field(default_factory=dict)
    """What engines' logs say of memory."""
    measurements: Measurements = field(default_factory=dict)
    """What engines measured before in the resource's namespace."""


def serving_children(
    observed: Observed, model: FineTunedModel, wanted: Manifest
) -> tuple[Manifest | None, Manifest | None]:
    """The live child of the wanted kind, and what served the model before under the other kind and is still there."""
    live, other = observed.deployment, observed.leader_worker_set
    if wanted["kind"] == LEADER_WORKER_SET:
        live, other = other, live
    stays = other and owned_by(other, model) and "deletionTimestamp" not in other["metadata"]
    return live, other if stays else None


def owned_serving(observed: Observed, model: FineTunedModel) -> list[Manifest]:
    """What serves the model now."""
    return [child for child in (observed.deployment, observed.leader_worker_set) if child and owned_by(child, model)]


@dataclass(frozen=True)
class Apply:
    """Server-side apply of a whole child; `why` names what differed."""

    manifest: Manifest
    why: str


@dataclass(frozen=True)
class Delete:
    manifest: Manifest


@dataclass(frozen=True)
class Result:
    actions: tuple[Apply | Delete, ...] = ()
    status: Manifest | None = None
    """None: as it is already."""
    notices: tuple[Notice, ...] = ()
    retry_after: float | None = None
    """Seconds until time alone may change the answer."""
    waits_for: str | None = None
    """The merge that this resource waits for, as its Job's label names it."""
    follows: str | None = None
    """The pod whose log tells how far the merge is."""
    listens: EngineLog | None = None
    """The engine's log that this pass needs, or needed."""
    measurements: tuple[Measurement, ...] = ()
    """To be kept for later plans."""
