"""Holds the records that go into a pass over one resource, and those that come out of it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ftm_jobs.contract.run_time_adapters import HeldAdapters
from ftm_jobs.contract.verification import ServedVerification
from ftm_operator.api.v1alpha1 import CanaryProgress, FineTunedModel, FineTunedModelStatus, Plan, Version
from ftm_operator.observe.canary.figures import CanaryFigures, CanaryQuestion
from ftm_operator.observe.warnings import Subject
from ftm_operator.planning.feedback.measurements import Measurement, Measurements
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.reconcile.engine_feedback import EngineLog, EngineMemory
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.refusals import Refusal
from ftm_operator.resources.event import Notice
from ftm_operator.resources.metadata import Manifest
from ftm_operator.settings import Settings
from ftm_operator.steps.step import StepResult

Labelled = Callable[[str, str], Sequence[Manifest]]
"""(label, value) -> the children in the resource's namespace that carry it."""


@dataclass(frozen=True, kw_only=True)
class ObservedChildren:
    """A resource, and the part of a namespace that a pass over any kind of resource reads."""

    resource: Manifest
    jobs: Labelled
    pods: Labelled
    progress: Mapping[str, str] = field(default_factory=dict)
    """The progress of running steps, by the names of their pods."""
    first_seen: Callable[[Manifest], datetime | None] = lambda _: None
    """A Job that has ended -> when the operator first saw that, by its own clock."""
    warnings: Mapping[Subject, str] = field(default_factory=dict)
    """The newest Events of objects, where they are warnings."""
    refusals: Sequence[Refusal] = ()
    """The children of this pass that the API server did not take."""
    held: Mapping[str, HeldAdapters] = field(default_factory=dict)
    """The adapters that the model's engines hold, by the names of their pods, as the pods' agents last said."""


@dataclass(frozen=True, kw_only=True)
class Observed(ObservedChildren):
    """The objects of a namespace that a pass over a FineTunedModel reads."""

    deployment: Manifest | None = None
    leader_worker_set: Manifest | None = None
    service: Manifest | None = None
    disruption_budget: Manifest | None = None
    scalers: Sequence[Manifest] = ()
    """ScaledObjects and HorizontalPodAutoscalers with the resource's label; KEDA's own are among them."""
    http_route: Manifest | None = None
    inference_model_rewrite: Manifest | None = None
    inference_pool: Manifest | None = None
    served_apis: frozenset[str] = frozenset()
    """The kinds that a cluster may lack and this one has, and its API groups."""
    kubernetes: str | None = None
    """The API server's version, as in v1.36.2."""
    accelerators: Sequence[AcceleratorClass] = ()
    """The GPUs that there are."""
    several_nodes: bool = False
    """True where the cluster has LeaderWorkerSets, so that a replica may span nodes."""
    engine_memory: Mapping[EngineLog, EngineMemory] = field(default_factory=dict)
    """The memory that engines' logs tell of."""
    measurements: Measurements = field(default_factory=dict)
    """Earlier measurements of engines in the resource's namespace."""
    contested: Callable[[str, str, str], bool] = lambda _kind, _name, _difference: False
    """(kind of a child, its name, difference) -> whether another manager would only undo an apply of it."""
    adapters: Sequence[Manifest] = ()
    """The FineTunedAdapters that name this resource, by name."""
    served: Mapping[str, ServedVerification] = field(default_factory=dict)
    """The verdicts on engines in serving pods, by the names of the pods, as the sidecars last said."""
    revisions: Sequence[Manifest] = ()
    """The ControllerRevisions that keep the resource's versions."""
    canaries: Sequence[Manifest] = ()
    """The Deployment or LeaderWorkerSet of a canary; both while one kind follows the other."""
    canary_service: Manifest | None = None
    wanted_config_map: Manifest | None = None
    """The ConfigMap that tells serving pods which adapters they are to hold."""
    canary_figures: CanaryFigures | None = None
    """The figures of a Canary, as a Prometheus last told them for the question of an earlier pass."""


@dataclass(frozen=True)
class Context:
    """The inputs of a pass, which every part of it reads and none changes."""

    model: FineTunedModel
    before: FineTunedModelStatus
    observed: Observed
    settings: Settings
    now: datetime


@dataclass(frozen=True)
class Apply:
    """Server-side apply of a whole child; `why` names what differed."""

    manifest: Manifest
    why: str


@dataclass(frozen=True)
class Delete:
    """Deletes a child."""

    manifest: Manifest


@dataclass(frozen=True)
class Touch:
    """Annotates a serving pod with the hash of the adapters that it is to hold, so that it is told of them at once."""

    manifest: Manifest
    """The pod."""
    wanted_hash: str


@dataclass(frozen=True)
class HandOver:
    """Has a field manager of its own hold a child's number of replicas, so that an apply without it resets nothing."""

    manifest: Manifest
    """The child's identity, and its number of replicas."""


Action = Apply | Delete | Touch | HandOver


@dataclass(frozen=True)
class StepPod:
    """The pod of a running step, and its container that runs the step."""

    name: str
    container: str


@dataclass(frozen=True)
class Effects:
    """Everything that a pass asks for beside its status."""

    actions: tuple[Action, ...] = ()
    awaited_build: str | None = None
    """The shared build that this resource waits for, as its Job's label names it."""
    progress_pod: StepPod | None = None
    """The pod whose log tells how far the running step is."""
    engine_log: EngineLog | None = None
    """The engine's log that this pass needs, or needed."""
    unexplained: Subject | None = None
    """The object whose Events may tell why this resource waits."""
    measurements: tuple[Measurement, ...] = ()
    """To be kept for later plans."""
    canary_question: CanaryQuestion | None = None
    """The figures that a step of a Canary waits for."""

    def __add__(self, later: "Effects") -> "Effects":
        return Effects(
            (*self.actions, *later.actions),
            later.awaited_build or self.awaited_build,
            later.progress_pod or self.progress_pod,
            later.engine_log or self.engine_log,
            later.unexplained or self.unexplained,
            (*self.measurements, *later.measurements),
            later.canary_question or self.canary_question,
        )


@dataclass(frozen=True)
class ServedVersions:
    """The versions of what serves, as the status tells of them."""

    canary: CanaryProgress | None
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class StepOutcome:
    """The result of a step, or the hold that it waits for; both, where the result itself holds the later steps."""

    result: StepResult | None = None
    hold: Hold | None = None
    effects: Effects = Effects()
    plan: Plan | None = None
    """The plan as this step changed it, if it did."""
    lost: str | None = None
    """The step whose artifact is no longer in its store."""
    versions: ServedVersions | None = None
    """The versions of what serves, if the step looked at them."""


@dataclass(frozen=True)
class Walk:
    """The way of a pass through the steps, up to the first that holds."""

    results: Mapping[str, StepResult] = field(default_factory=dict)
    """By the names of the steps that have one."""
    plan: Plan | None = None
    hold: Hold | None = None
    """The reason for which the resource is not served as its spec says; None when it is."""
    forgotten: tuple[str, ...] = ()
    """The steps whose earlier results are void."""
    effects: Effects = Effects()
    versions: ServedVersions | None = None
    """The versions of what serves; None: as they were."""
    preview: Plan | None = None
    """The plan of what answers until the merged model does."""


@dataclass(frozen=True)
class Result:
    """The requests of a pass, to be carried out in this order: actions, the status, Events."""

    effects: Effects = Effects()
    status: Manifest | None = None
    """None: as it is already."""
    notices: tuple[Notice, ...] = ()
    retry_after: float | None = None
    """Seconds until time alone may change the answer."""

    @property
    def actions(self) -> tuple[Action, ...]:
        return self.effects.actions
