"""A pure stand-in for a namespace: the objects that an API server would hold, and passes over its FineTunedModels.

`Namespace.settle` carries out what `reconcile` asks for, as a server would, until no pass asks for anything. Nothing
happens by itself: a scene says when a Job ends, a pod fails or a Deployment becomes available. Every status that a pass
writes must keep the rules of kstatus, and be the same to kstatus and Argo CD.
"""

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ftm_operator.observe.warnings import Subject
from ftm_operator.planning.feedback.measurements import Measurement, added
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.reconcile.engine_feedback import EngineLog, EngineMemory
from ftm_operator.reconcile.passes import Apply, Delete, Observed, Result
from ftm_operator.reconcile.reconcile import reconcile
from ftm_operator.reconcile.refusals import Refusal
from ftm_operator.resources.metadata import STEP
from ftm_operator.runtime.view.object_cache import ObjectCache, key_of
from ftm_operator.settings import Settings
from tests.unit.operator.argocd import disagreements
from tests.unit.operator.kstatus import violations
from tests.unit.operator.objects import NAME, NAMESPACE, SETTINGS, Manifest

START = datetime(2026, 1, 1, tzinfo=UTC)
MOST_PASSES = 10


@dataclass
class Namespace:
    now: datetime = START
    cache: ObjectCache = field(default_factory=ObjectCache)
    settings: Settings = SETTINGS
    applied: list[str] = field(default_factory=list)
    """Everything applied or deleted, in order: `Job ftm-merge-…`."""
    progress: dict[str, str] = field(default_factory=dict)
    """Lines read of running pods' logs, by pod."""
    heard: dict[EngineLog, EngineMemory] = field(default_factory=dict)
    """Memory figures read of engines' logs."""
    measurements: dict[str, Measurement] = field(default_factory=dict)
    accelerators: tuple[AcceleratorClass, ...] = ()
    several_nodes: bool = False
    warnings: dict[Subject, str] = field(default_factory=dict)
    """Read of Events."""
    refusals: Sequence[Refusal] = ()
    """The writes that the API server does not take, for as long as they are here."""
    events: list[str] = field(default_factory=list)
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    def put(self, item: Manifest) -> Manifest:
        """Stores an object as it is; no pass follows."""
        stored = copy.deepcopy(item)
        stored["metadata"]["resourceVersion"] = str(next(self.versions))
        self.cache.put(stored["kind"], stored)
        return stored

    def get(self, kind: str, name: str = NAME) -> Manifest:
        stored = self.cache.get(kind, (NAMESPACE, name))
        assert stored is not None, f"there is no {kind} {name}"
        return stored

    def resource(self, name: str = NAME) -> Manifest:
        return self.get("FineTunedModel", name)

    def once(self, name: str = NAME) -> Result:
        """Returns what one pass asks for, and carries out none of it."""
        own = (NAMESPACE, name)
        return reconcile(
            Observed(
                resource=copy.deepcopy(self.resource(name)),
                jobs=lambda label, value: self.cache.labelled("Job", NAMESPACE, label, value),
                pods=lambda label, value: self.cache.labelled("Pod", NAMESPACE, label, value),
                deployment=self.cache.get("Deployment", own),
                leader_worker_set=self.cache.get("LeaderWorkerSet", (NAMESPACE, f"{name}-nodes")),
                service=self.cache.get("Service", own),
                disruption_budget=self.cache.get("PodDisruptionBudget", own),
                progress=self.progress,
                accelerators=self.accelerators,
                several_nodes=self.several_nodes,
                engine_memory=self.heard,
                measurements=self.measurements,
                refusals=self.refusals,
                warnings=self.warnings,
            ),
            self.settings,
            self.now,
        )

    def settle(self, *names: str) -> None:
        """Runs passes over every resource, or the named ones, until none asks for anything."""
        for _ in range(MOST_PASSES):
            if not [name for name in names or self._names() if self._pass(name)]:
                return
        raise AssertionError(f"no rest after {MOST_PASSES} passes")

    def jobs(self, step: str) -> list[Manifest]:
        stored = [self.cache.get("Job", key) for key in self.cache.keys("Job")]
        return [job for job in stored if job and job["metadata"].get("labels", {}).get(STEP) == step]

    def running_job(self, step: str, name: str | None = None) -> Manifest:
        """Returns the one Job of a step that has not ended, of the named resource if several run."""
        (job,) = [job for job in self.jobs(step) if not job.get("status") and name in {None, owner_of(job)}]
        return job

    def _names(self) -> list[str]:
        return [name for _, name in self.cache.keys("FineTunedModel")]

    def _pass(self, name: str) -> bool:
        """Carries out one pass; returns whether it asked for anything."""
        result = self.once(name)
        if not result.actions and result.status is None:
            return False
        for action in result.actions:
            self._execute(action)
        if result.status is not None:
            written = self.put(self.resource(name) | {"status": result.status})
            assert not (wrong := [*violations(written), *disagreements(written)]), wrong
        self.measurements = added(self.measurements, result.effects.measurements)
        self.events += [f"{notice.type} {notice.reason}" for notice in result.notices]
        return True

    def _execute(self, action: Apply | Delete) -> None:
        item = action.manifest
        verb = "delete " if isinstance(action, Delete) else ""
        self.applied.append(f"{verb}{item['kind']} {item['metadata']['name']}")
        if isinstance(action, Delete):
            self.cache.remove(item["kind"], key_of(item))
            return
        live = self.cache.get(item["kind"], key_of(item)) or {"metadata": {}}
        stored = copy.deepcopy(item)
        stored["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1
        stored["metadata"]["creationTimestamp"] = self.now.isoformat()
        stored["status"] = live.get("status", {})
        self.put(stored)


def owner_of(job: Manifest) -> str:
    return str(job["metadata"]["ownerReferences"][0]["name"])
